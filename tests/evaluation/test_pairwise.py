"""The verdict of a pairwise judge on one prompt, against values by hand."""

from __future__ import annotations

import numpy as np
import pytest

from rayflow.core.evaluation_rows import Answers
from rayflow.core.stats import sigmoid
from rayflow.evaluation.pairwise import compared_verdict


def answers(*lengths: int) -> Answers:
    ids = tuple(np.zeros(n, np.int32) for n in lengths)
    return Answers(
        prompt_id="p", prompt="?", messages=(), target=None, responses=("",) * len(lengths), token_ids=ids
    )


def test_the_win_rate_is_the_mean_preference_and_ties_are_even_pairs() -> None:
    preferred = np.array([[0.9, 0.5], [0.2, 0.5 + 1e-9]])
    found = compared_verdict(answers(3, 5), answers(10, 20), preferred)
    assert found.win_rate == pytest.approx(0.525)
    assert found.tie_rate == 0.5
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
