"""Candidates with the same text. Rows in: keys of the texts [p, n]. Rows out: which are copies of which."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Copies:
    """Which candidates have the same text, by their positions in the order of visits.

    Attributes:
        first: [p, n] int64, the first position of a candidate's text.
        following: [p, n] int64, the next position of its text; its own for the last.
    """

    first: np.ndarray
    following: np.ndarray

    @classmethod
    def of(cls, keys: np.ndarray) -> Copies | None:
        """From keys [p, n] int64 in [0, n), equal where texts are; None if all texts of every row differ."""
        num_prompts, n = keys.shape
        texts, places = _by_text(keys)
        again = texts[:, 1:] == texts[:, :-1]
        if not again.any():
            return None
        heads = np.hstack([np.ones((num_prompts, 1), bool), ~again])
        head = np.maximum.accumulate(np.where(heads, np.arange(n), 0), axis=1)
        following = places.copy()
        following[:, :-1][again] = places[:, 1:][again]
        first = np.take_along_axis(places, head, axis=1)
        back = np.argsort(places, axis=1)
        return cls(*(np.take_along_axis(values, back, axis=1) for values in (first, following)))

    @property
    def num_texts(self) -> np.ndarray:
        """[p] int64, different texts."""
        return (self.first == np.arange(self.first.shape[1])).sum(axis=1)


def merge_texts(rewards: np.ndarray, keys: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Equal texts made one candidate, as a dictionary keyed by text does: first place, last reward.

    Args:
        rewards: [p, n] float64, in the order of visits.
        keys: [p, n] int64 in [0, n), equal where texts are.

    Returns:
        (rewards [p, n] float64 of the distinct texts, -inf behind the last; [p] int64 how many there are;
        [p, n] int64 the place in the given order that each has come from).
    """
    texts, places = _by_text(keys)
    edge, changes = np.ones((len(rewards), 1), bool), texts[:, 1:] != texts[:, :-1]
    first, last = np.hstack([edge, changes]), np.hstack([changes, edge])
    row = np.nonzero(first)[0]  # a row's texts come in the same order in both
    merged = np.full_like(rewards, -np.inf)
    merged[row, places[first]] = rewards[row, places[last]]
    packed = np.argsort(merged == -np.inf, axis=1, kind="stable")
    return np.take_along_axis(merged, packed, axis=1), first.sum(axis=1), packed


def _by_text(keys: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Keys [p, n] in ascending order, and the places they had; equal keys in the order of these."""
    n = keys.shape[1]
    packed = np.sort(keys * n + np.arange(n), axis=1)
    return packed // n, packed % n
