"""Intervals: how sure a mean over prompts is. Probabilities as log-odds and back."""

from __future__ import annotations

import math
from functools import cache

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


def num_decided(shares: np.ndarray) -> int:
    """Items on which one side is ahead, of their shares [n] in [0, 1]."""
    return int(np.count_nonzero(np.asarray(shares) != 0.5))


def excludes_half(
    low: float, high: float, num_items: int, num_decided: int | None = None, confidence: float = 0.95
) -> bool:
    """Whether an interval of a win rate says that one side is better.

    A bootstrap of a handful of unanimous items is a point, which proves nothing, and among any number of ties it
    is little more: even a unanimous sign test, which leaves ties out, needs 2 * 0.5**n <= 1 - confidence, that is
    6 decided items at 95%. Where those were not counted (None), all items are taken for decided.
    """
    decided = num_items if num_decided is None else num_decided
    return (low > 0.5 or high < 0.5) and 2 * 0.5**decided <= 1 - confidence


def bootstrap_means(
    values: np.ndarray, rng: np.random.Generator, *, num_resamples: int = 2_000, confidence: float = 0.95
) -> np.ndarray:
    """Means of many columns with percentile bootstrap intervals, all from the same resamples of the rows.

    Args:
        values: [n, q] float64, one independent row per item, n >= 1.
        rng: source of the resamples.
        num_resamples: as in `bootstrap_mean`.
        confidence: as in `bootstrap_mean`.

    Returns:
        [3, q] float64: mean, low, high.
    """
    n = len(values)
    chunk = max(1, 4_000_000 // n)  # counts held at a time, as in `bootstrap_mean`
    means = [
        rng.multinomial(n, np.full(n, 1 / n), size=min(chunk, num_resamples - done)) @ values / n
        for done in range(0, num_resamples, chunk)
    ]
    tail = (1 - confidence) / 2
    low, high = np.quantile(np.concatenate(means), [tail, 1 - tail], axis=0)
    return np.stack([values.mean(axis=0), low, high])


def bootstrap_ratio(
    sums: np.ndarray,
    weights: np.ndarray,
    rng: np.random.Generator,
    *,
    num_resamples: int = 10_000,
    confidence: float = 0.95,
) -> tuple[float, float, float]:
    """A ratio of two totals over items, such as nats over tokens, with its percentile bootstrap interval.

    Args:
        sums: [n] float64, one independent value per item, n >= 1.
        weights: [n] float64, positive.
        rng, num_resamples, confidence: as in `bootstrap_mean`.

    Returns:
        (ratio, low, high).
    """
    n = len(sums)
    both = np.stack([sums, weights], axis=1)
    chunk = max(1, 4_000_000 // n)  # counts held at a time, as in `bootstrap_mean`
    totals = np.concatenate(
        [
            rng.multinomial(n, np.full(n, 1 / n), size=min(chunk, num_resamples - done)) @ both
            for done in range(0, num_resamples, chunk)
        ]
    )
    tail = (1 - confidence) / 2
    low, high = np.quantile(totals[:, 0] / totals[:, 1], [tail, 1 - tail])
    return float(sums.sum() / weights.sum()), float(low), float(high)


class BlockMeans:
    """Means of consecutive blocks of rows that arrive bit by bit: what a bootstrap needs, in bounded memory.

    Few rows make blocks of one row each; many are averaged into at most `max_blocks` blocks of equal size
    (the last may be shorter), and the block is then the unit that is resampled.

    Args:
        num_rows: how many rows will arrive.
        max_blocks: blocks kept.
    """

    def __init__(self, num_rows: int, max_blocks: int = 1_000) -> None:
        self._size = max(1, -(-num_rows // max_blocks))
        self._sums = np.zeros((0, 0))
        self._num_blocks = -(-num_rows // self._size)
        self._seen = 0

    def add(self, rows: np.ndarray) -> None:
        """Take the next rows [p, q] float64, p >= 1, in their order."""
        if not self._seen:
            self._sums = np.zeros((self._num_blocks, rows.shape[1]))
        block = (self._seen + np.arange(len(rows))) // self._size
        starts = np.flatnonzero(np.diff(block, prepend=-1))
        self._sums[block[starts]] += np.add.reduceat(rows, starts, axis=0)
        self._seen += len(rows)

    @property
    def means(self) -> np.ndarray:
        """[blocks, q] float64, the mean of each block that has rows."""
        counts = np.minimum(self._seen - self._size * np.arange(self._num_blocks), self._size)
        return self._sums[counts > 0] / counts[counts > 0, None]

    def intervals(self, rng: np.random.Generator, confidence: float = 0.95) -> np.ndarray:
        """[3, q] float64: the exact mean over all rows, and the ends of its bootstrap interval."""
        found = bootstrap_means(self.means, rng, confidence=confidence)
        found[0] = self._sums.sum(axis=0) / self._seen
        return found


def logit(probabilities: np.ndarray) -> np.ndarray:
    """Log-odds log(p / (1 - p)) of probabilities in (0, 1): float64, 0 at even odds."""
    p = np.asarray(probabilities, np.float64)
    return np.log(p) - np.log1p(-p)


def sigmoid(log_odds: np.ndarray) -> np.ndarray:
    """The inverse of `logit`, float64, without overflow for any finite argument."""
    x = np.asarray(log_odds, np.float64)
    small = np.exp(-np.abs(x))
    return np.where(x >= 0, 1.0, small) / (1.0 + small)


def t_tails(t: float, freedom: float) -> float:
    """P(|T| > t) of Student's distribution, by Gauss-Legendre quadrature: relative error below 1e-9.

    With T = sqrt(v) tan(a) the density is that of cos(a)^(v - 1) over (-pi/2, pi/2).

    Args:
        t: at least 0.
        freedom: degrees of freedom v, at least 1; a fraction for Satterthwaite's.
    """
    nodes, weights = _quadrature()
    start = math.atan(t / math.sqrt(freedom))
    half = (math.pi / 2 - start) / 2
    area = half * float(weights @ np.cos(start + half * (nodes + 1)) ** (freedom - 1))
    log_whole = math.lgamma(freedom / 2) - math.lgamma((freedom + 1) / 2) + math.log(math.pi) / 2
    return min(1.0, 2 * area / math.exp(log_whole))


@cache
def _quadrature() -> tuple[np.ndarray, np.ndarray]:
    """Nodes in (-1, 1) and weights; made once, since that takes longer than using them."""
    return np.polynomial.legendre.leggauss(400)


def t_quantile(freedom: float, confidence: float = 0.95) -> float:
    """The t with P(|T| <= t) = confidence, by bisection; 1.96 for many degrees of freedom and 95%."""
    low, high = 0.0, 1.0
    while t_tails(high, freedom) > 1 - confidence:
        high *= 2
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if t_tails(middle, freedom) > 1 - confidence else (low, middle)
    return high


def holm(p_values: np.ndarray) -> np.ndarray:
    """Holm's adjusted p-values [q] float64: those below a level are false with at most that probability together.

    Source:
        Holm, A simple sequentially rejective multiple test procedure, Scand. J. Statist. 6 (1979).
    """
    p = np.asarray(p_values, np.float64)
    order = np.argsort(p, kind="stable")
    adjusted = np.empty_like(p)
    adjusted[order] = np.minimum(1.0, np.maximum.accumulate(p[order] * np.arange(len(p), 0, -1)))
    return adjusted


def wilson(share: float, num_items: int, z: float = 1.96) -> tuple[float, float]:
    """Interval of a share of few items, without leaving [0, 1].

    Args:
        share: observed, in [0, 1].
        num_items: at least 1.
        z: quantile of the normal distribution; 1.96 for 95%.

    Source:
        Wilson, Probable inference, JASA 22 (1927).
    """
    shrink = 1 + z * z / num_items
    middle = (share + z * z / (2 * num_items)) / shrink
    half = z / shrink * math.sqrt(share * (1 - share) / num_items + z * z / (4 * num_items**2))
    return middle - half, middle + half
