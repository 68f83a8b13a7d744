"""Randomness from names: every random draw comes from (run seed, stage, prompt id), nothing else.

So a result does not depend on the number of workers, on the batch a row fell into, or on restarts.
"""

from __future__ import annotations

import hashlib

import numpy as np

SEED_SPACING = 1 << 12
"""Engines derive candidate seeds as seed + index, so row seeds are multiples of this (n <= 4096)."""


def derive(seed: int, *names: str | int) -> int:
    """A 63-bit seed for the path `names` under the run's `seed`.

    Args:
        seed: the run's seed.
        names: the path, for instance ("select", prompt_id).
    """
    text = "\x1f".join(str(part) for part in (seed, *names))
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "big") >> 1


def rng(seed: int, *names: str | int) -> np.random.Generator:
    """A generator of its own for the path `names` (see `derive`)."""
    return np.random.Generator(np.random.PCG64(derive(seed, *names)))


def sampling_seed(seed: int, *names: str | int) -> int:
    """A row seed for engines that use seed + candidate index: below 2**62, spaced by SEED_SPACING."""
    return derive(seed, *names) // (2 * SEED_SPACING) * SEED_SPACING
