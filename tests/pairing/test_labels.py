"""Labels from a pairwise judge: who is asked what, how often, and what comes of the answer."""

from __future__ import annotations

import numpy as np
import pytest

from rayflow.core.registry import FAMILIES, resolve
from rayflow.pairing.labels import LabelOptions, by_reward, label

REWARDS = np.arange(16.0)
ACCEPTED = np.array([3, 9, 1, 0, 12, 7, 5, 2], np.int32)


class Judge:
    """Prefers the LOWER reward, with a given certainty, and remembers what it was asked."""

    def __init__(self, certainty: float = 0.9) -> None:
        self.certainty = certainty
        self.asked: list[tuple[int, int]] = []

    def __call__(self, pairs: np.ndarray) -> np.ndarray:
        self.asked += [tuple(pair) for pair in pairs.tolist()]
        lower = REWARDS[pairs[:, 0]] < REWARDS[pairs[:, 1]]
        return np.where(lower, self.certainty, 1 - self.certainty)


def made(kind: str, judge: Judge, seed: int = 0, **settings: object) -> np.ndarray:
    rule = resolve("pairing", kind)
    return rule(rule.Config(**settings)).pair(ACCEPTED, REWARDS, np.random.default_rng(seed), judge)


COMPARISONS = {
    "first_round": 4,  # RSO's n_d / 2
    "tournament": 7,  # n_d - 1
    "all_pairs": 28,
    "best_worst": 1,
    "min_of_m": 1,
    "gap": 0,
    "none": 0,
}
"""How many labels each rule asks for of eight accepted responses."""


@pytest.mark.parametrize(("kind", "comparisons"), COMPARISONS.items())
def test_a_rule_asks_for_each_label_once(kind: str, comparisons: int) -> None:
    judge = Judge()
    pairs = made(kind, judge)
    assert len(judge.asked) == len({frozenset(pair) for pair in judge.asked}) == comparisons
    assert resolve("pairing", kind).__dict__.get("asks", True) == bool(comparisons)
    if comparisons:
        assert {frozenset(pair) for pair in pairs.tolist()} == {frozenset(pair) for pair in judge.asked}


def test_every_rule_is_in_the_table_above() -> None:
    assert set(COMPARISONS) == set(FAMILIES["pairing"])


@pytest.mark.parametrize("kind", ["first_round", "tournament", "all_pairs", "best_worst", "min_of_m"])
def test_the_judge_overrules_the_rewards(kind: str) -> None:
    pairs = made(kind, Judge())
    assert len(pairs) and pairs.dtype == np.int32
    assert (REWARDS[pairs[:, 0]] < REWARDS[pairs[:, 1]]).all()


def test_the_judges_winner_plays_on() -> None:
    assert made("tournament", Judge())[-1, 0] == 0  # the lowest of the accepted


def test_sampled_labels_follow_the_probability_and_argmax_does_not() -> None:
    lower = [made("best_worst", Judge(0.7), seed, labels="sample")[0, 0] == 0 for seed in range(2000)]
    assert np.mean(lower) == pytest.approx(0.7, abs=0.03)
    assert all(made("best_worst", Judge(0.7), seed)[0, 0] == 0 for seed in range(50))


@pytest.mark.parametrize("labels", ["argmax", "sample"])
def test_labels_by_reward_are_certain(labels: str) -> None:
    pairs = np.array([[0, 1], [1, 0], [2, 2]])
    prefer = by_reward(np.array([1.0, 2.0, 5.0]))
    assert prefer(pairs).tolist() == [0.0, 1.0, 0.5]
    options = LabelOptions(kind="test", labels=labels)
    labelled, tied = label(pairs, prefer, np.random.default_rng(0), options)
    assert labelled.tolist() == [[1, 0], [1, 0], [2, 2]]
    assert tied.tolist() == [False, False, True]


@pytest.mark.parametrize("kind", ["first_round", "tournament", "all_pairs", "best_worst", "min_of_m"])
def test_an_undecided_judge_makes_ties_which_are_dropped(kind: str) -> None:
    assert made(kind, Judge(0.5)).shape == (0, 2)


def test_bradley_terry_draws_follow_the_difference_of_the_rewards_over_the_temperature():
    rewards, pairs = np.array([0.0, 0.3]), np.tile([[1, 0]], (20_000, 1))
    prefer = by_reward(rewards, temperature=0.25)
    options = LabelOptions(kind="first_round", labels="sample")
    labelled, tied = label(pairs, prefer, np.random.default_rng(0), options)
    share = float((labelled[:, 0] == 1).mean())
    assert share == pytest.approx(1 / (1 + np.exp(-0.3 / 0.25)), abs=4 * 0.5 / np.sqrt(len(pairs)))
    assert not tied.any()


def test_without_a_temperature_the_higher_reward_is_always_preferred():
    rewards = np.array([0.0, 1e-9])
    assert by_reward(rewards)(np.array([[1, 0], [0, 1], [0, 0]])).tolist() == [1.0, 0.0, 0.5]


def test_a_temperature_that_would_change_nothing_is_refused():
    with pytest.raises(ValueError, match="'temperature' changes nothing under labels 'argmax'"):
        LabelOptions(kind="first_round", temperature=0.5)


def test_draws_are_never_made_of_the_sign_alone():
    prefer = by_reward(np.array([0.0, 1.0]), temperature=2.0)
    assert prefer(np.array([[0, 1], [1, 0]])).sum() == pytest.approx(1.0)
