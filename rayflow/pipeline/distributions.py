"""Distributions of stored columns for the report: one batch in memory at a time, however many rows there are.

A column with few values keeps them. One with more is counted in bins by a second pass, on the edges that its
values would have been drawn with.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from rayflow.report.plots import bin_edges
from rayflow.report.values import Histogram, Values

MAX_VALUES = 1 << 18
"""Values that a column may keep."""

Batches = Callable[[], Iterable[Mapping[str, np.ndarray]]]
"""One pass over all rows: batches of columns by name, each [m] of any length, finite."""


@dataclass(frozen=True)
class Bins:
    """How a column would be drawn (see `report.plots.bin_edges`).

    Attributes:
        whole: its values are whole numbers.
        span: its fixed range, such as (0, 1) for shares.
        like: another column, whose bins it shares because both are drawn in one chart.
    """

    whole: bool = False
    span: tuple[float, float] | None = None
    like: str | None = None


@dataclass
class _Column:
    """What a first pass knows of a column."""

    count: int = 0
    total: float = 0.0
    low: float = math.inf
    high: float = -math.inf
    kept: list[np.ndarray] = field(default_factory=list)

    def add(self, values: np.ndarray) -> None:
        if not values.size:
            return
        self.count += values.size
        self.total += float(values.sum(dtype=np.float64))
        self.low, self.high = min(self.low, float(values.min())), max(self.high, float(values.max()))
        if self.count <= MAX_VALUES:
            self.kept.append(values.copy())  # a view would keep its whole batch
        else:
            self.kept.clear()


def distributions(
    batches: Batches, bins: Mapping[str, Bins], sums: Sequence[str] = ()
) -> tuple[dict[str, Values], dict[str, float]]:
    """Distributions of some columns, sums of others.

    Args:
        batches: begins one pass over the rows; called twice if a column has too many values to keep.
        bins: the columns to distribute.
        sums: the columns to add up.

    Returns:
        (name -> values or histogram, name -> sum).
    """
    columns = {name: _Column() for name in (*bins, *sums)}
    for batch in batches():
        for name, column in columns.items():
            column.add(batch[name])
    found: dict[str, Values] = {
        name: np.concatenate([np.empty(0), *columns[name].kept])
        for name in bins
        if columns[name].count <= MAX_VALUES
    }
    edges = {name: _edges(name, columns, bins) for name in bins if name not in found}
    counts = {name: np.zeros(len(e) - 1, np.int64) for name, e in edges.items()}
    for batch in batches() if edges else ():
        for name in edges:
            counts[name] += count(batch[name], edges[name])
    for name in edges:
        found[name] = Histogram(edges[name], counts[name], columns[name].total / columns[name].count)
    return found, {name: columns[name].total for name in sums}


def _edges(name: str, columns: Mapping[str, _Column], bins: Mapping[str, Bins]) -> np.ndarray:
    shared = bins[name].like or name
    ends = np.array([columns[shared].low, columns[shared].high])
    return bin_edges([ends], whole=bins[shared].whole, span=bins[shared].span)


def count(values: np.ndarray, edges: np.ndarray) -> np.ndarray:
    """[b] int64 values in each bin [left, right); the outer bins take what lies on or beyond the ends."""
    places = np.searchsorted(edges, values, side="right") - 1
    return np.bincount(places.clip(0, len(edges) - 2), minlength=len(edges) - 1)
