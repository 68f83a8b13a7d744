"""Numbers of a version of the table, by which it is judged: one pass, a bounded number of rows in memory.

Row in: `TableRow` columns. Out: `Measures`, and histograms of rewards and lengths for a comparison of two versions.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from rayflow.pipeline.report_columns import flat
from rayflow.report.plots import bin_edges
from rayflow.report.values import Histogram

COLUMNS = ("prompt_id", "responses", "rewards", "num_tokens", "acceptance_rate", "pairs", "attempt")
FINE = 64
"""Bins per drawn bin, in which distributions are compared."""

Batches = Callable[[Sequence[str]], Iterable[pa.RecordBatch]]
"""One pass over some columns of a version's rows."""


@dataclass(frozen=True)
class Mean:
    """A mean over prompts.

    Attributes:
        value: the mean; NaN without rows.
        error: its standard error, taking prompts as independent; infinite below two rows.
    """

    value: float
    error: float


@dataclass(frozen=True)
class Measures:
    """Numbers of a set of rows.

    Attributes:
        rows, responses, pairs: how many.
        reward: mean reward of the candidates, prompt by prompt.
        reward_deviation: standard deviation of the rewards of all candidates.
        reward_range, token_range: (lowest, highest).
        tokens: mean response length.
        acceptance: mean acceptance rate.
        distinct: mean share of different texts among a prompt's candidates.
        paired: share of the prompts with at least one pair.
    """

    rows: int
    responses: int
    pairs: int
    reward: Mean
    reward_deviation: float
    reward_range: tuple[float, float]
    tokens: Mean
    token_range: tuple[float, float]
    acceptance: Mean
    distinct: Mean
    paired: Mean

    def to_dict(self) -> dict[str, Any]:
        """As JSON: NaN and infinity as null."""
        return _finite(asdict(self))


class _Sums:
    """Running sums of one number per prompt."""

    def __init__(self) -> None:
        self._count, self._total, self._squares = 0, 0.0, 0.0

    def add(self, values: np.ndarray) -> None:
        """Welford's update by batches: no difference of large sums."""
        if not values.size:
            return
        mean, delta = float(values.mean()), 0.0
        if self._count:
            delta = mean - self._total / self._count
        weight = self._count * values.size / (self._count + values.size)
        self._squares += float(np.square(values - mean).sum()) + delta * delta * weight
        self._count += values.size
        self._total += float(values.sum())

    @property
    def deviation(self) -> float:
        """Of the values, as a population."""
        return math.sqrt(self._squares / self._count) if self._count else math.nan

    @property
    def mean(self) -> Mean:
        n = self._count
        error = math.sqrt(self._squares / (n - 1) / n) if n > 1 else math.inf
        return Mean(self._total / n if n else math.nan, error)


def measure(batches: Iterable[pa.RecordBatch]) -> Measures:
    """The numbers of these rows."""
    names = ("reward", "tokens", "acceptance", "distinct", "paired", "all_rewards")
    sums = {name: _Sums() for name in names}
    rows = responses = pairs = 0
    ends = {"rewards": [math.inf, -math.inf], "num_tokens": [math.inf, -math.inf]}
    for batch in batches:
        table = pa.Table.from_batches([batch])
        rewards, sizes = flat(table.column("rewards"))
        # There are more of them than rewards where a further draw could not be scored.
        tokens, responses_each = flat(table.column("num_tokens"))
        counts = np.array([len(value) for value in table.column("pairs").to_pylist()])
        texts = table.column("responses").to_pylist()
        rows, responses, pairs = rows + len(sizes), responses + len(rewards), pairs + int(counts.sum())
        sums["reward"].add(_group_means(rewards, sizes))
        sums["tokens"].add(_group_means(tokens, responses_each))
        sums["all_rewards"].add(rewards)
        sums["acceptance"].add(table.column("acceptance_rate").to_numpy())
        sums["distinct"].add(np.array([len(set(group)) / len(group) for group in texts if group]))
        sums["paired"].add((counts > 0).astype(np.float64))
        for name, values in (("rewards", rewards), ("num_tokens", tokens)):
            if values.size:
                ends[name] = [min(ends[name][0], values.min()), max(ends[name][1], values.max())]
    reward_ends, token_ends = ((float(a), float(b)) for a, b in ends.values())
    return Measures(
        rows=rows,
        responses=responses,
        pairs=pairs,
        reward=sums["reward"].mean,
        reward_deviation=sums["all_rewards"].deviation,
        reward_range=reward_ends,
        tokens=sums["tokens"].mean,
        token_range=token_ends,
        **{name: sums[name].mean for name in ("acceptance", "distinct", "paired")},
    )


def _group_means(values: np.ndarray, sizes: np.ndarray) -> np.ndarray:
    """[prompts with candidates] mean of each prompt's values."""
    sizes = sizes[sizes > 0]
    if not sizes.size:
        return np.empty(0)
    starts = np.cumsum(sizes) - sizes
    return np.add.reduceat(values.astype(np.float64), starts) / sizes


@dataclass(frozen=True)
class Drawn:
    """One distribution of two sets of rows, on the same fine bins; `before` is None without a baseline."""

    before: Histogram | None
    after: Histogram

    @property
    def distance(self) -> float:
        """Kolmogorov-Smirnov distance, to the resolution of the bins."""
        if self.before is None or not self.before.counts.sum() or not self.after.counts.sum():
            return math.nan
        shares = [np.cumsum(h.counts) / h.counts.sum() for h in (self.before, self.after)]
        return float(np.abs(shares[0] - shares[1]).max())

    def coarse(self) -> Drawn:
        """As a chart shows it."""
        before = None if self.before is None else _coarse(self.before)
        return Drawn(before, _coarse(self.after))


def compare(
    column: str,
    after: tuple[Batches, Measures],
    before: tuple[Batches, Measures] | None,
    known: Collection[str] | None = None,
) -> dict[str, Drawn]:
    """Distributions of a column of a version and of its baseline.

    Args:
        column: "rewards" or "num_tokens".
        after: the version.
        before: the baseline.
        known: attempts whose rows the baseline has; rows of others are also set apart.

    Returns:
        "whole", and "fresh" for those rows.
    """
    name, whole = ("reward_range", False) if column == "rewards" else ("token_range", True)
    ends = [getattr(each[1], name) for each in (after, before) if each is not None and each[1].rows]
    if not ends:
        return {}
    edges = bin_edges([np.array(pair, np.float64) for pair in ends], whole=whole)
    fine = np.concatenate(
        [np.linspace(a, b, FINE, endpoint=False) for a, b in zip(edges[:-1], edges[1:], strict=True)]
    )
    fine = np.append(fine, edges[-1])
    read = (column, "attempt")
    base = None if before is None else _histogram(before[0](read), column, fine)
    found = {"whole": Drawn(base, _histogram(after[0](read), column, fine))}
    if known is not None:
        found["fresh"] = Drawn(base, _histogram(fresh(after[0](read), known), column, fine))
    return found


def fresh(batches: Iterable[pa.RecordBatch], known: Collection[str]) -> Iterator[pa.RecordBatch]:
    """The rows that no attempt of `known` computed."""
    values = pa.array(list(known), pa.string())
    for batch in batches:
        kept = batch.filter(pc.invert(pc.is_in(batch.column("attempt"), value_set=values)))
        if kept.num_rows:
            yield kept


def _histogram(batches: Iterable[pa.RecordBatch], column: str, edges: np.ndarray) -> Histogram:
    counts, total, size = np.zeros(len(edges) - 1, np.int64), 0.0, 0
    for batch in batches:
        values, _ = flat(pa.chunked_array([batch.column(column)]))
        places = np.searchsorted(edges, values, side="right") - 1
        counts += np.bincount(places.clip(0, len(counts) - 1), minlength=len(counts))
        total, size = total + float(values.sum()), size + values.size
    return Histogram(edges, counts, total / size if size else math.nan)


def _coarse(found: Histogram) -> Histogram:
    return Histogram(found.edges[::FINE], found.counts.reshape(-1, FINE).sum(axis=1), found.mean)


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _finite(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(each) for each in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
