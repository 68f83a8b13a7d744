"""Algorithm 1 of the RSO paper for one prompt after the other, as the loop that it is, compiled.

Rows in: rewards [p, n] and keys of the texts [p, n]. Rows out: the accepted candidates of each row.

Source: arXiv:2309.06657, Algorithm 1 and section 3.2.
"""

from __future__ import annotations

import math
import os
from functools import partial
from pathlib import Path

import numba
import numpy as np

from rayflow.core.draws import GOLDEN, MIX

# Where this folder is read-only, every process compiles for itself; numba would look for another place, or fail.
compiled = partial(numba.njit, nogil=True, cache=os.access(Path(__file__).parent, os.W_OK))


@compiled
def select_rows(
    rewards: np.ndarray,
    texts: np.ndarray,
    seeds: np.ndarray,
    beta: float,
    num_accepted: int,
    shuffle: bool,
    by_acceptance: bool,
    text_keyed: bool,
) -> tuple[np.ndarray, np.ndarray]:
    """Choose candidates of p prompts.

    Args:
        rewards: [p, n] float64, finite.
        texts: [p, n] int64 in [0, n), equal where texts are.
        seeds: [p] uint64; random number i of a row is number i of `core.draws.uniform` for its seed.
        beta: temperature, >= 0, in units of the reward.
        num_accepted: how many to accept per row; where there are fewer texts, one of each.
        shuffle: visit in a random order.
        by_acceptance: take the maximum anew after each acceptance, not only for each pass.
        text_keyed: make equal texts one candidate first, at the place of the first, with the reward of the last.

    Returns:
        ([p, min(num_accepted, n)] int32 candidates in acceptance order, of row i the first counts[i, 0] valid;
        counts [p, 3] int64: accepted, passes, visits).
    """
    num_prompts, n = rewards.shape
    accepted = np.zeros((num_prompts, min(num_accepted, n)), np.int32)
    counts = np.zeros((num_prompts, 3), np.int64)
    for row in range(num_prompts):
        order, drawn = np.arange(n), 0
        if shuffle:
            drawn = shuffle_in_place(order, seeds[row])
        values = rewards[row]
        if text_keyed:
            order, values = merged(order, values, texts[row])
        _select(order, values, texts[row], seeds[row], drawn, beta, by_acceptance, accepted[row], counts[row])
    return accepted, counts


@compiled
def _select(
    remaining: np.ndarray,
    rewards: np.ndarray,
    texts: np.ndarray,
    seed: int,
    drawn: int,
    beta: float,
    by_acceptance: bool,
    accepted: np.ndarray,
    counts: np.ndarray,
) -> None:
    """Pass after pass over the remaining candidates of one row, until there are enough or none.

    The best of a pass is accepted for sure, so there are at most as many passes as acceptances.
    """
    taken = np.zeros(len(texts), np.bool_)  # by text: the copies of an accepted one leave with it
    count = rounds = visits = 0
    while len(remaining) and count < len(accepted):
        rounds += 1
        best = _best_left(remaining, rewards, texts, taken)
        for i in remaining:
            if taken[texts[i]]:
                continue
            visits += 1
            drawn += 1
            if number(seed, drawn - 1) >= acceptance_probability(rewards[i] - best, beta):
                continue
            accepted[count] = i
            count += 1
            taken[texts[i]] = True
            if count == len(accepted):
                break
            if by_acceptance:
                best = _best_left(remaining, rewards, texts, taken)
        remaining = _those_left(remaining, texts, taken)
    counts[0], counts[1], counts[2] = count, rounds, visits


@compiled
def _best_left(remaining: np.ndarray, rewards: np.ndarray, texts: np.ndarray, taken: np.ndarray) -> float:
    """The highest reward of the candidates whose text has not been accepted; -inf if there is none."""
    best = -np.inf
    for i in remaining:
        if rewards[i] > best and not taken[texts[i]]:
            best = rewards[i]
    return best


@compiled
def _those_left(remaining: np.ndarray, texts: np.ndarray, taken: np.ndarray) -> np.ndarray:
    """The candidates whose text has not been accepted, moved to the front of the same array."""
    kept = 0
    for i in remaining:
        if not taken[texts[i]]:
            remaining[kept] = i
            kept += 1
    return remaining[:kept]


@compiled
def acceptance_probability(gap: float, beta: float) -> float:
    """exp(gap / beta), Eq 4, for a gap <= 0 to the highest reward; at beta = 0 the limit, 1 for no gap, else 0."""
    if beta == 0:
        return 1.0 if gap == 0 else 0.0
    return math.exp(gap / beta)


@compiled
def merged(order: np.ndarray, rewards: np.ndarray, texts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Equal texts made one candidate, as a dictionary of text to reward does: first place, last reward.

    Args:
        order: [n] int64, candidates in the order of visits.
        rewards: [n] float64.
        texts: [n] int64 in [0, n), equal where texts are.

    Returns:
        (the candidates that stay, in the order of visits; rewards [n] with theirs replaced).
    """
    first = np.full(len(order), -1)
    values = rewards.copy()
    for i in order:
        if first[texts[i]] < 0:
            first[texts[i]] = i
        values[first[texts[i]]] = rewards[i]
    return order[first[texts[order]] == order], values


@compiled
def shuffle_in_place(order: np.ndarray, seed: int) -> int:
    """Fisher and Yates' shuffle with numbers 0 .. n - 2 of the row; returns how many were drawn."""
    last = len(order) - 1
    for drawn in range(last):
        here = last - drawn
        other = int(number(seed, drawn) * (here + 1))
        order[here], order[other] = order[other], order[here]
    return last


@compiled
def number(seed: int, index: int) -> float:
    """Number `index` of a row, in (0, 1): that of `core.draws.uniform`, computed alone."""
    mixed = np.uint64(seed) + np.uint64(index + 1) * GOLDEN
    for shift, factor in MIX:
        mixed = (mixed ^ (mixed >> np.uint64(shift))) * factor
    mixed ^= mixed >> np.uint64(31)
    return np.int64((mixed >> np.uint64(11)) | np.uint64(1)) * 2.0**-53
