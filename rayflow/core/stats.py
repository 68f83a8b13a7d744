"""Intervals: how sure a mean over prompts is."""

from __future__ import annotations

import numpy as np


def bootstrap_mean(
    values: np.ndarray, rng: np.random.Generator, *, num_resamples: int = 10_000, confidence: float = 0.95
) -> tuple[float, float, float]:
    """Mean with its percentile bootstrap interval.

    A resample of n values is a multinomial count over the distinct ones, so the cost is resamples x distinct
    values: win shares take few values however many prompts there are, and no [resamples, n] table is made.

    Args:
        values: [n] float64, one independent value per item, n >= 1.
        rng: source of the resamples.
        num_resamples: more resamples, less noise at the ends of the interval.
        confidence: share of resampled means inside the interval, in (0, 1).

    Returns:
        (mean, low, high); all three equal where all values are.

    Source:
        Efron & Tibshirani, An Introduction to the Bootstrap (1993), section 13.3.
    """
    distinct, counts = np.unique(np.asarray(values, np.float64), return_counts=True)
    n = int(counts.sum())
    if len(distinct) == 1:
        return (float(distinct[0]),) * 3
    # At most about 4 million counts at a time, for values that are all distinct.
    chunk = max(1, 4_000_000 // len(distinct))
    means = [
        rng.multinomial(n, counts / n, size=min(chunk, num_resamples - done)) @ distinct / n
        for done in range(0, num_resamples, chunk)
    ]
    tail = (1 - confidence) / 2
    low, high = np.quantile(np.concatenate(means), [tail, 1 - tail])
    return float(counts @ distinct / n), float(low), float(high)


def excludes_half(low: float, high: float, num_items: int, confidence: float = 0.95) -> bool:
    """Whether an interval of a win rate says that one side is better.

    A bootstrap of a handful of unanimous items is a point, which proves nothing: even a unanimous sign test
    needs 2 * 0.5**n <= 1 - confidence, that is 6 items at 95%.
    """
    return (low > 0.5 or high < 0.5) and 2 * 0.5**num_items <= 1 - confidence
