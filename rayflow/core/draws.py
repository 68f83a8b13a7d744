"""Random numbers for many rows at once, each a function of its row's seed and of its place in the row.

Number i of a row is output i of SplitMix64 started at the row's seed. So a
row draws the same numbers alone, in any batch and in any order, and a batch costs a few array operations
rather than a generator per row. Rows must have unrelated seeds, as `seeds.derive` makes them.

Source: Steele, Lea and Flood, "Fast Splittable Pseudorandom Number Generators" (OOPSLA 2014), with the mixing
constants of Vigna's splitmix64.c.
"""

from __future__ import annotations

import numpy as np

GOLDEN = np.uint64(0x9E3779B97F4A7C15)
MIX = ((30, np.uint64(0xBF58476D1CE4E5B9)), (27, np.uint64(0x94D049BB133111EB)))


def bits(seeds: np.ndarray, count: int) -> np.ndarray:
    """Numbers 0 .. count - 1 of every row, as they come.

    Args:
        seeds: [p] uint64, one per row.
        count: numbers per row.

    Returns:
        [p, count] uint64.
    """
    counters = np.arange(1, count + 1, dtype=np.uint64) * GOLDEN
    mixed = np.asarray(seeds, np.uint64)[:, None] + counters
    shifted = np.empty_like(mixed)
    for shift, factor in MIX:
        np.right_shift(mixed, np.uint64(shift), out=shifted)
        mixed ^= shifted
        mixed *= factor
    np.right_shift(mixed, np.uint64(31), out=shifted)
    mixed ^= shifted
    return mixed


def uniform(seeds: np.ndarray, count: int) -> np.ndarray:
    """Like `bits`: [p, count] float64, uniform on the odd multiples of 2**-53, so never 0 and never 1."""
    drawn = bits(seeds, count)
    drawn >>= np.uint64(11)
    drawn |= np.uint64(1)
    return drawn.view(np.int64) * 2.0**-53  # below 2**53; signed numbers become floats several times faster


def gumbel(seeds: np.ndarray, count: int) -> np.ndarray:
    """Like `bits`: [p, count] float64, standard Gumbel, always finite."""
    return -np.log(-np.log(uniform(seeds, count)))
