"""Our order of the methods beside the paper's: which pairs of rows agree, which do not, and how surely."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from dataclasses import dataclass

from rayflow.study.results import Estimate, RowSummary, interval


@dataclass(frozen=True)
class Disagreement:
    """Two rows that the paper orders one way and this study the other.

    Attributes:
        better, worse: rows, as the paper has them.
        column: the paper's column.
        reward: ours that it is compared with.
        difference: by how much `better` wins more often here than `worse` (negative), with its interval.
    """

    better: str
    worse: str
    column: str
    reward: str
    difference: Estimate

    @property
    def is_sure(self) -> bool:
        """Whether the interval leaves out that they are equal."""
        return self.difference[2] < 0


@dataclass(frozen=True)
class Comparison:
    """All pairs of rows that a paper's column orders.

    Attributes:
        num_pairs: with different numbers in the paper, and both measured here.
        num_sure: of these, ordered here by an interval that leaves out equality, either way.
        disagreements: the pairs that come out the other way round.
    """

    num_pairs: int
    num_sure: int
    disagreements: tuple[Disagreement, ...]


def compare(
    rows: Mapping[str, RowSummary], column: str, paper: Mapping[str, float], reward: str
) -> Comparison:
    """One column of the paper against one of our rewards.

    Args:
        rows: what was measured, by name.
        column: heading of the paper's column.
        paper: its numbers by row.
        reward: "proxy" or "gold".
    """
    known = [name for name in paper if name in rows]
    ordered = [
        (a, b) if paper[a] > paper[b] else (b, a)
        for a, b in itertools.combinations(known, 2)
        if paper[a] != paper[b]
    ]
    found = [
        Disagreement(better, worse, column, reward, difference(rows[better], rows[worse], reward))
        for better, worse in ordered
    ]
    return Comparison(
        num_pairs=len(found),
        num_sure=sum(d.difference[1] > 0 or d.is_sure for d in found),
        disagreements=tuple(d for d in found if d.difference[0] < 0),
    )


def difference(first: RowSummary, second: RowSummary, reward: str) -> Estimate:
    """By how much the first wins more often, paired by prompt: both met the same answers of the SFT policy."""
    one, other = first.by_prompt[reward], second.by_prompt[reward]
    return interval([one[name] - other[name] for name in one if name in other], f"{first.row} {second.row}")
