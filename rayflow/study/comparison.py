"""Our order of the methods beside the paper's: which pairs of rows agree, which do not, and how surely."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np

from rayflow.core.stats import holm
from rayflow.study.intervals import Estimate, interval
from rayflow.study.results import RowSummary

LEVEL = 0.05
"""Chance that any of the pairs called sure, over all columns together, is not."""


@dataclass(frozen=True)
class Order:
    """Two rows that the paper orders.

    Attributes:
        better, worse: rows, as the paper has them.
        reward: ours that the paper's column is compared with.
        difference: by how much `better` wins more often here than `worse`, with its interval.
        p_value: that they are equal, adjusted by Holm for all pairs that are asked about.
    """

    better: str
    worse: str
    reward: str
    difference: Estimate
    p_value: float

    @property
    def agrees(self) -> bool:
        """Whether it comes out here as the paper has it; equal ones do not."""
        return self.difference.mean > 0

    @property
    def is_sure(self) -> bool:
        """Whether more than chance orders them here, either way."""
        return self.p_value < LEVEL


@dataclass(frozen=True)
class Column:
    """A column of a paper's table.

    Attributes:
        name: its heading in the table. One with "proxy" in it is compared with the proxy, any other with the gold
            reward.
        numbers: the paper's, by row.
    """

    name: str
    numbers: Mapping[str, float]

    @property
    def reward(self) -> str:
        """Ours that it is compared with."""
        return "proxy" if "proxy" in self.name.lower() else "gold"


@dataclass(frozen=True)
class Comparison:
    """All pairs of rows that a paper's column orders, and that are measured here."""

    orders: tuple[Order, ...]

    @property
    def num_sure(self) -> int:
        """Of these, ordered here by more than chance, either way."""
        return sum(order.is_sure for order in self.orders)

    @property
    def disagreements(self) -> tuple[Order, ...]:
        """The pairs that come out here the other way round, the surest first."""
        return tuple(order for order in self.by_certainty if order.difference.mean < 0)

    @property
    def by_certainty(self) -> tuple[Order, ...]:
        """All pairs, the surest first."""
        return tuple(sorted(self.orders, key=lambda order: (order.p_value, order.difference.mean)))

    @property
    def num_agreeing(self) -> int:
        """The pairs that come out the same way."""
        return sum(order.agrees for order in self.orders)


def compare(
    rows: Mapping[str, RowSummary], columns: Mapping[str, Column], num_seeds: int = 1
) -> dict[str, Comparison]:
    """Columns of the paper against our rewards, by heading; one that orders no measured pair is left out.

    Two columns that ask the same question (which of two rows wins more often by one reward) ask it once: the
    adjustment counts questions.

    Args:
        rows: what was measured, by name.
        columns: the paper's, by the heading under which they are shown.
        num_seeds: of the whole study. Where there are to be several, a pair of rows that shares one so far is not
            sure, whatever its prompts say: nothing is known yet of the variance over seeds.
    """
    found = {heading: _orders(rows, column, min(num_seeds, 2)) for heading, column in columns.items()}
    asked = {_question(order): order.p_value for orders in found.values() for order in orders}
    adjusted = dict(zip(asked, holm(np.array(list(asked.values()))).tolist(), strict=True))
    return {
        heading: Comparison(tuple(replace(each, p_value=adjusted[_question(each)]) for each in orders))
        for heading, orders in found.items()
        if orders
    }


def _orders(rows: Mapping[str, RowSummary], column: Column, least: int) -> list[Order]:
    """Pairs with fewer than the least number of shared seeds have a p-value of 1."""
    reward, paper, orders = column.reward, column.numbers, []
    for pair in itertools.combinations([name for name in paper if name in rows], 2):
        if paper[pair[0]] == paper[pair[1]]:
            continue
        better, worse = sorted(pair, key=lambda name: -paper[name])
        found = difference(rows[better], rows[worse], reward)
        if found is not None:
            shared = len({*rows[better].seeds} & {*rows[worse].seeds})
            orders.append(Order(better, worse, reward, found, found.p_value if shared >= least else 1.0))
    return orders


def _question(order: Order) -> tuple[str, frozenset[str]]:
    return order.reward, frozenset((order.better, order.worse))


def difference(first: RowSummary, second: RowSummary, reward: str) -> Estimate | None:
    """By how much the first wins more often, paired by prompt and seed: both met the same answers of the SFT policy.

    Only the seeds and prompts that both have count; None where there are none.
    """
    one, other = first.shares[reward], second.shares[reward]
    prompts = [name for name in one if name in other]
    seeds = [seed for seed in first.seeds if seed in second.seeds]
    if not prompts or not seeds:
        return None

    def table(row: RowSummary) -> np.ndarray:
        places = [row.seeds.index(seed) for seed in seeds]
        return np.array([row.shares[reward][name] for name in prompts]).T[places]

    return interval(table(first) - table(second)).within(-1.0, 1.0)
