"""Pointwise rewards from pairwise judgements (RSO, arXiv:2309.06657, Eq 7), with exact judges."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rayflow.core.rows import Prompt
from rayflow.core.stats import sigmoid
from rayflow.errors import RewardError
from rayflow.rewards.base import SURE, preferences
from rayflow.rewards.pairwise import Pairwise, PairwiseOptions


def prompt(name: str) -> Prompt:
    return Prompt(prompt_id=name, prompt="?", messages=(), target=None)


class BradleyTerry(Pairwise):
    """An exact Bradley-Terry judge: a response is a number, its quality."""

    sign = 1.0

    def judge(self, prompt, responses, pairs):
        quality = self.sign * np.array([float(text) for text in responses])
        return sigmoid(quality[pairs[:, 0]] - quality[pairs[:, 1]])


class Mirrored(BradleyTerry):
    """Gives 1 - rho where `BradleyTerry` gives rho."""

    sign = -1.0


class Constant(Pairwise):
    """Says the same of every pair."""

    def __init__(self, value: object) -> None:
        super().__init__(PairwiseOptions(kind="constant"))
        self.value = value

    def judge(self, prompt, responses, pairs):
        return np.full(len(pairs), self.value)


def built(kind, **options) -> Pairwise:
    return kind(PairwiseOptions(kind="test", **options))


QUALITIES = st.lists(st.floats(-4, 4), min_size=2, max_size=12)


@given(QUALITIES, st.integers(0, 99), st.integers(0, 99))
def test_under_bradley_terry_another_baseline_only_shifts_the_rewards(qualities, seed, other):
    responses = [repr(q) for q in qualities]
    one = built(BradleyTerry, seed=seed).score(prompt("a"), responses)
    two = built(BradleyTerry, seed=other).score(prompt("a"), responses)
    assert one - one[0] == pytest.approx(two - two[0], abs=1e-6)
    assert one - one[0] == pytest.approx(np.array(qualities) - qualities[0], abs=1e-6)


@given(QUALITIES)
def test_turned_judgements_change_the_sign(qualities):
    responses = [repr(q) for q in qualities]
    straight = built(BradleyTerry).score(prompt("a"), responses)
    assert built(Mirrored).score(prompt("a"), responses) == pytest.approx(-straight, abs=1e-6)


def test_even_odds_are_reward_zero():
    assert Constant(0.5).score(prompt("a"), ["x", "y", "z"]).tolist() == [0.0, 0.0, 0.0]


def test_n_candidates_cost_n_minus_one_comparisons():
    judge = built(BradleyTerry)
    judge.score(prompt("a"), [str(i) for i in range(64)])
    assert judge.num_comparisons == 63
    judge.compare(prompt("a"), ["1", "2"], np.array([[0, 1]] * 4))
    assert judge.num_comparisons == 67


@pytest.mark.parametrize("n", [0, 1])
def test_fewer_than_two_candidates_need_no_judgement(n):
    judge = built(BradleyTerry)
    assert judge.score(prompt("a"), ["1"] * n).tolist() == [0.0] * n
    assert judge.num_comparisons == 0


def test_the_baseline_is_drawn_uniformly_by_the_prompt_and_the_seed():
    responses = [str(i + 1) for i in range(5)]

    def baseline(name: str, seed: int) -> int:
        return int(np.flatnonzero(built(BradleyTerry, seed=seed).score(prompt(name), responses) == 0)[0])

    names = [f"p{i}" for i in range(1000)]
    drawn = [baseline(name, 0) for name in names]
    assert drawn == [baseline(name, 0) for name in names]
    assert drawn != [baseline(name, 1) for name in names]
    assert np.bincount(drawn) / 1000 == pytest.approx([0.2] * 5, abs=0.05)


@pytest.mark.parametrize("certain", [0.0, 1.0])
def test_certainty_is_clipped_to_a_finite_reward(certain):
    rewards = Constant(certain).score(prompt("a"), ["x", "y"])
    assert np.abs(rewards).max() == pytest.approx(np.log((1 - 1e-6) / 1e-6))


@pytest.mark.parametrize(
    ("value", "message"), [(float("nan"), "nan for pair 0"), (1.5, "1.5"), (-0.1, "-0.1")]
)
def test_what_is_no_probability_is_refused(value, message):
    judge = Constant(value)
    judge.compare = judge.judge  # as a plug-in without this base class would do
    with pytest.raises(RewardError, match=message):
        preferences(judge, prompt("a"), ["x", "y"], np.array([[0, 1]]))


def test_a_wrong_number_of_probabilities_is_refused_and_certainty_has_finite_odds():
    judge = Constant(1.0)
    judge.compare = lambda *_: np.ones(3)
    with pytest.raises(RewardError, match="shape"):
        preferences(judge, prompt("a"), ["x", "y"], np.array([[0, 1]]))
    judge.compare = judge.judge
    assert preferences(judge, prompt("a"), ["x", "y"], np.array([[0, 1]])).tolist() == [1 - SURE]
    assert preferences(judge, prompt("a"), ["x", "y"], np.empty((0, 2), int)).shape == (0,)
