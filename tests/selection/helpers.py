"""Selections of many rows at once, as the tests of several rules need them."""

from __future__ import annotations

import functools

import numpy as np

from rayflow.core.registry import resolve
from rayflow.core.seeds import derive
from rayflow.selection.batch import Selections


@functools.cache
def row_seeds(count: int, name: str = "test") -> np.ndarray:
    """[count] uint64, one seed per row, unrelated to each other; read-only, for all callers share it."""
    seeds = np.array([derive(20230913, name, i) for i in range(count)], np.uint64)
    seeds.flags.writeable = False
    return seeds


def select(
    kind: str, rewards: object, seeds: object = 0, keys: object = None, **settings: object
) -> Selections:
    """The rule on rows [p, n], or on one row [n]."""
    rule = resolve("selection", kind)
    columns = [np.atleast_2d(np.asarray(rewards, np.float64)), np.atleast_1d(np.asarray(seeds, np.uint64))]
    if keys is not None:
        columns.append(np.atleast_2d(np.asarray(keys, np.int64)))
    return rule(rule.Config(kind=kind, **settings)).select(*columns)


def chosen(kind: str, rewards: object, seed: int = 0, **settings: object) -> list[int]:
    """The accepted indices of one row."""
    return select(kind, rewards, seed, **settings).accepted.tolist()


def outcomes(selections: Selections) -> list[tuple[int, ...]]:
    """(rounds, visits, accepted ...) of each row."""
    numbers = zip(selections.num_rounds.tolist(), selections.num_visits.tolist(), strict=True)
    return [(*n, *a.tolist()) for n, a in zip(numbers, selections.per_prompt(), strict=True)]
