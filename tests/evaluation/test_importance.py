"""Estimates by importance weights: values worked out by hand, both limits, and what must not change them."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from rayflow.evaluation.importance import (
    beta_grid,
    default_kl_budget,
    estimate,
    smallest_beta,
    trusted_ess,
)

# Ten candidates in the proportions pi_sft = (.5, .3, .2), rewards (0, 1, 2).
THREE = np.array([[0.0] * 5 + [1.0] * 3 + [2.0] * 2])

groups = st.integers(2, 12).flatmap(
    lambda n: arrays(np.float64, (2, n), elements=st.integers(-40, 40).map(lambda i: i / 8))
)
betas = st.sampled_from([0.0, 0.05, 0.3, 1.0, 4.0, math.inf])


def test_a_set_with_known_proportions_gives_the_tilted_expectations():
    # pi_beta = (.179000, .291944, .529056); KL = E[r] - log(.5 + .3 e + .2 e^2).
    found = estimate(THREE, 1.0)
    assert found.reward == pytest.approx(0.291944 + 2 * 0.529056, abs=1e-6)
    assert found.gain == pytest.approx(0.291944 + 2 * 0.529056 - 0.7, abs=1e-6)
    assert found.acceptance == pytest.approx(0.378031, abs=1e-6)
    assert found.kl == pytest.approx(1.350056 - math.log(0.5 + 0.3 * math.e + 0.2 * math.e**2), abs=1e-6)
    # (5 e^-2 + 3 e^-1 + 2)^2 / (5 e^-4 + 3 e^-2 + 2)
    assert found.ess == pytest.approx(3.780314**2 / 2.497584, rel=1e-5)


def test_without_selection_the_estimates_are_those_of_the_sft_policy():
    for beta in (math.inf, 1e9):
        found = estimate(THREE, beta)
        assert found.reward == pytest.approx(0.7, abs=1e-6)
        assert found.gain == pytest.approx(0, abs=1e-6)
        assert found.kl == pytest.approx(0, abs=1e-6)
        assert found.ess == pytest.approx(10)
        assert found.acceptance == pytest.approx(1)


def test_at_beta_zero_the_highest_rewards_share_all_the_weight():
    for beta in (0.0, 1e-3):
        found = estimate(THREE, beta)
        assert found.reward == pytest.approx(2)
        assert found.kl == pytest.approx(math.log(10 / 2))  # two candidates share the maximum
        assert found.ess == pytest.approx(2)
        assert found.acceptance == pytest.approx(2 / 10)
    alone = estimate(np.arange(7.0)[None], 0.0)
    assert alone.kl == pytest.approx(math.log(7))


def test_equal_rewards_leave_nothing_to_choose_at_any_beta():
    for beta in (0.0, 0.1, math.inf):
        found = estimate(np.full((1, 5), 3.0), beta)
        assert (found.reward, found.kl, found.gain) == (3.0, 0.0, 0.0)
        assert (found.ess, found.acceptance) == (5.0, 1.0)


def test_gaps_far_beyond_beta_neither_overflow_nor_warn():
    found = estimate(np.array([[-1e300, 0.0, 1e6], [1e6, 1e6, -1e6]]), 1e-6)
    assert np.allclose(found.kl, [math.log(3), math.log(1.5)])
    assert np.array_equal(found.reward, [1e6, 1e6])


@given(groups, betas, st.integers(-16, 16))
def test_a_constant_added_to_all_rewards_moves_the_reward_and_nothing_else(rewards, beta, shift):
    before, after = estimate(rewards, beta), estimate(rewards + shift, beta)
    assert after.reward == pytest.approx(before.reward + shift, abs=1e-9)
    for name in ("gain", "kl", "ess", "acceptance"):
        assert getattr(after, name) == pytest.approx(getattr(before, name), abs=1e-9)


@given(groups, betas, st.sampled_from([1e-3, 0.5, 3.0, 1e4]))
def test_rewards_and_beta_in_another_unit_change_only_the_unit(rewards, beta, unit):
    before, after = estimate(rewards, beta), estimate(unit * rewards, unit * beta)
    for name in ("reward", "gain"):
        assert getattr(after, name) == pytest.approx(unit * getattr(before, name), abs=1e-9 * unit)
    for name in ("kl", "ess", "acceptance"):
        assert getattr(after, name) == pytest.approx(getattr(before, name), abs=1e-9)


@given(groups)
def test_a_smaller_beta_never_lowers_reward_or_kl_nor_raises_ess_or_acceptance(rewards):
    falling = [estimate(rewards, beta) for beta in (math.inf, 8.0, 2.0, 0.5, 0.1, 0.02, 0.0)]
    for before, after in zip(falling[:-1], falling[1:], strict=True):
        assert np.all(after.reward >= before.reward - 1e-9)
        assert np.all(after.kl >= before.kl - 1e-9)
        assert np.all(after.ess <= before.ess + 1e-9)
        assert np.all(after.acceptance <= before.acceptance + 1e-9)


@given(groups, betas)
def test_estimates_stay_inside_what_n_candidates_can_show(rewards, beta):
    found, n = estimate(rewards, beta), rewards.shape[1]
    assert np.all((found.kl >= 0) & (found.kl <= math.log(n) + 1e-12))
    assert np.all((found.ess >= 1 - 1e-12) & (found.ess <= n + 1e-9))
    assert np.all(found.reward <= rewards.max(axis=1) + 1e-12)
    # exp(entropy of p) = n exp(-KL) is never below the effective sample size.
    assert np.all(found.ess <= n * np.exp(-found.kl) + 1e-9)


@pytest.mark.parametrize("n", [8, 16, 64, 128])
def test_at_the_trusted_sample_size_gaussian_rewards_are_estimated_as_promised(n):
    """For r ~ N(0, 1), KL = 1 / (2 beta^2) and the gain is 1 / beta."""
    rewards = np.random.default_rng(n).normal(size=(200_000 // n, n))
    trusted = [
        beta for beta in np.geomspace(0.3, 3, 60) if estimate(rewards, beta).ess.mean() >= trusted_ess(n)
    ]
    beta = trusted[0]
    found = estimate(rewards, beta)
    assert 0.75 < found.kl.mean() * 2 * beta**2 < 1
    assert 0.8 < found.gain.mean() * beta < 1


def test_the_default_budget_lies_halfway_to_top_k():
    assert default_kl_budget(64, 8) == pytest.approx(1.0397, abs=1e-4)
    assert default_kl_budget(8, 8) == 0


def test_the_grid_is_round_and_spans_the_rewards_scale():
    assert beta_grid(1.0) == [0.05, 0.07, 0.1, 0.15, 0.2, 0.3, 0.5, 0.7, 1.0, 1.5, 2.0, 3.0, 5.0, 7.0]
    assert beta_grid(1000.0) == [1000 * beta for beta in beta_grid(1.0)]


def gaussian_kl(betas):
    """KL of unit Gaussian rewards, where nothing has to be estimated."""
    return np.array([math.inf if beta == 0 else 0.5 / beta**2 for beta in betas])


@pytest.mark.parametrize(
    ("budget", "beta"), [(0.5, 1.0), (0.49, 1.1), (1.04, 0.70), (2.0, 0.5), (0.001, 23.0), (200.0, 0.05)]
)
def test_the_search_finds_the_smallest_two_digit_beta_within_the_budget(budget, beta):
    # sqrt(1 / (2 * .49)) = 1.0102, rounded up to two digits; sqrt(1 / 2.08) = .6934; sqrt(500) = 22.36.
    assert smallest_beta(budget, 1.0, gaussian_kl) == beta


def test_the_search_takes_few_passes_and_ends_at_zero_where_the_budget_does_not_bind():
    calls = []

    def kl(betas):
        calls.append(len(betas))
        return np.zeros(len(betas))

    assert smallest_beta(1.0, 0.37, kl) == 0.0
    calls.clear()
    smallest_beta(1.0, 0.37, lambda betas: calls.append(len(betas)) or gaussian_kl(betas))
    assert len(calls) == 2
