"""Chi-square tests as a number of standard deviations, without a table of the distribution."""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Iterable

import numpy as np

LIMIT = 4.0
"""A correct sampler exceeds this once in 30,000 tests; seeds are fixed, so a test that passes goes on passing."""


def surprise(observed: np.ndarray, probabilities: np.ndarray) -> float:
    """How far counts are from a law: standard normal if they follow it, large if not.

    Cells that are expected less than 5 times are joined. A count in a cell of probability 0 is infinitely far.
    """
    observed, probabilities = np.asarray(observed, float), np.asarray(probabilities, float)
    if observed[probabilities == 0].any():
        return float("inf")
    expected = observed.sum() * probabilities / probabilities.sum()
    observed, expected = _joined(observed, expected, expected)
    return _normal(((observed - expected) ** 2 / expected).sum(), len(expected) - 1)


def difference(first: Iterable[Hashable], second: Iterable[Hashable]) -> float:
    """How far two samples of outcomes are from having one law, on the same scale."""
    counts = [Counter(first), Counter(second)]
    table = np.array([[count[key] for key in set().union(*counts)] for count in counts], float)
    total = table.sum(axis=0)
    smaller = total * min(table.sum(axis=1)) / table.sum()
    table = np.stack([_joined(row, total, smaller)[0] for row in table])
    expected = table.sum(axis=1, keepdims=True) * table.sum(axis=0) / table.sum()
    return _normal(((table - expected) ** 2 / expected).sum(), table.shape[1] - 1)


def _joined(counts: np.ndarray, others: np.ndarray, sizes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Both rows with the cells of size below 5 added up into one, left out if it is empty."""
    small = sizes < 5
    rows = (np.append(row[~small], row[small].sum()) for row in (counts, others))
    counts, others = rows
    return (counts, others) if others[-1] > 0 else (counts[:-1], others[:-1])


def _normal(statistic: float, degrees: int) -> float:
    """Wilson and Hilferty (1931): the cube root of chi-square over its degrees is almost normal."""
    if degrees < 1:
        return 0.0
    spread = 2 / (9 * degrees)
    return float(((statistic / degrees) ** (1 / 3) - (1 - spread)) / spread**0.5)
