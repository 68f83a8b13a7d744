"""The verdict of a pairwise judge on one prompt, against values by hand."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from rayflow.core.evaluation_rows import Answered, Answers
from rayflow.core.stats import sigmoid
from rayflow.evaluation.measures import reward_measure
from rayflow.evaluation.pairwise import compared_verdict
from rayflow.evaluation.win_rate import win_rate


def answers(*lengths: int) -> Answers:
    ids = tuple(np.zeros(n, np.int32) for n in lengths)
    return Answers(
        prompt_id="p", prompt="?", messages=(), target=None, responses=("",) * len(lengths), token_ids=ids
    )


def test_the_win_rate_is_the_share_of_comparisons_won_and_ties_are_even_pairs() -> None:
    preferred = np.array([[0.6, 0.5, 0.9], [0.2, 0.5 + 1e-9, 0.51]])
    found = compared_verdict(answers(3, 5), answers(10, 20, 15), preferred)
    assert found.win_rate == pytest.approx(4 / 6)
    assert found.tie_rate == pytest.approx(2 / 6)
    assert (found.policy_tokens, found.baseline_tokens) == (4.0, 15.0)


def test_rewards_are_the_bradley_terry_qualities_with_the_baselines_mean_at_zero() -> None:
    policy, baseline = np.array([3.0, 1.0]), np.array([0.5, -1.0, 2.0])
    preferred = sigmoid(policy[:, None] - baseline[None, :])
    found = compared_verdict(answers(1, 1), answers(1, 1, 1), preferred)
    assert found.policy_rewards == pytest.approx([2.5, 0.5])
    assert found.baseline_rewards == pytest.approx([0.0, -1.5, 1.5])
    assert found.policy_reward == pytest.approx(1.5) and found.baseline_reward == 0.0
    assert found.policy_rewards.mean() == pytest.approx(found.policy_reward)


def test_swapped_sides_have_the_other_rate() -> None:
    preferred = np.random.default_rng(0).uniform(0.01, 0.99, (3, 4))
    one = compared_verdict(answers(1, 1, 1), answers(1, 1, 1, 1), preferred)
    other = compared_verdict(answers(1, 1, 1, 1), answers(1, 1, 1), 1 - preferred.T)
    assert other.win_rate == pytest.approx(1 - one.win_rate)
    assert other.policy_reward == pytest.approx(-one.policy_reward)


def test_without_a_difference_in_length_the_rate_at_equal_length_is_the_rate() -> None:
    """Also where preferences are not Bradley-Terry's, so that no rewards could give them back."""
    preferred = np.array([[0.6, 0.5], [0.5, 0.5]])
    rows, verdicts = [], []
    for number in range(20):
        sides = [replace(answers(1, 1), prompt_id=f"p{number}") for _ in range(2)]
        verdict = compared_verdict(*sides, preferred)
        verdicts.append(verdict)
        rewards = verdict.policy_rewards, verdict.baseline_rewards
        rows.append(tuple(Answered(**vars(s), rewards=r) for s, r in zip(sides, rewards, strict=True)))
    settings = {"seed": 0, "num_resamples": 50, "confidence": 0.95}
    won = win_rate(verdicts, **settings)
    each = {verdict.prompt_id: verdict.preferred for verdict in verdicts}
    found = reward_measure(rows, won, preferred=each, **settings)
    assert won.win_rate == pytest.approx(0.625)
    assert found.length_controlled.win_rate == pytest.approx(won.win_rate, abs=1e-3)
