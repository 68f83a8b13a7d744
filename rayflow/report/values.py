"""A distribution in a report: raw values, or counts where the values are too many to hold."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Histogram:
    """Counts per bin, for distributions too large to hold as values.

    Attributes:
        edges: [b + 1] float64, increasing.
        counts: [b] int64, values in each bin.
        mean: exact mean of the values, which bins alone do not give.
    """

    edges: np.ndarray
    counts: np.ndarray
    mean: float

    def __post_init__(self) -> None:
        if len(self.edges) != len(self.counts) + 1 or not np.all(np.diff(self.edges) > 0):
            raise ValueError(f"{len(self.counts)} counts need {len(self.counts) + 1} increasing bin edges")


Values = np.ndarray | Histogram
"""A distribution: raw values [n] (any numeric dtype, finite), or counts that were binned elsewhere."""


def mean_of(values: Values) -> float:
    """Mean of a distribution, NaN for an empty one; infinite where the values' sum is too large for a float."""
    if isinstance(values, Histogram):
        return float(values.mean)
    with np.errstate(over="ignore", invalid="ignore"):
        return float(np.mean(values)) if np.size(values) else float("nan")


def size_of(values: Values) -> int:
    """How many values a distribution holds."""
    return int(np.sum(values.counts)) if isinstance(values, Histogram) else int(np.size(values))


def any_below_zero(values: Values) -> bool:
    """Whether a distribution has negative values; of counts, whether a bin that lies left of zero holds any."""
    if isinstance(values, Histogram):
        return bool(np.any(values.counts[values.edges[1:] <= 0]))
    return bool(np.any(np.asarray(values) < 0))
