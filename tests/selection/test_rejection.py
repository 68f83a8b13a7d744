"""Statistical rejection sampling against values derived by hand."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from rayflow.core.options import build
from rayflow.selection.rejection import RejectionSampling, acceptance_probabilities, rejection_sample

NUM_DRAWS = 20_000
# Standard error of a frequency is below .0036; five of them, with the seeds fixed.
TOLERANCE = 0.018
REWARDS = np.array([0.0, 1.0, 2.0])


def select(rewards, seed=0, **options):
    rule = build("selection", RejectionSampling.Config(**options))
    return rule.select(np.asarray(rewards, dtype=np.float64), np.random.default_rng(seed))


def law_of_first_accepted(order, beta=1.0):
    """Frequencies [3] of the first accepted among REWARDS; order=None draws a fresh one each time."""
    rng = np.random.default_rng(20230913)
    counts = np.zeros(3)
    for _ in range(NUM_DRAWS):
        visits = rng.permutation(3) if order is None else np.array(order)
        counts[rejection_sample(REWARDS, visits, beta, 1, rng).accepted[0]] += 1
    return counts / NUM_DRAWS


@pytest.mark.parametrize(
    ("order", "expected"),
    [
        # w = (e^-2, e^-1, 1): w_i times the product of (1 - w_j) over the earlier j
        ([0, 1, 2], (0.135335, 0.318092, 0.546572)),
        ([2, 1, 0], (0.0, 0.0, 1.0)),
        # w_i times the integral over t in [0, 1] of the product of (1 - t w_j) over the others
        (None, (0.059370, 0.175642, 0.764988)),
    ],
)
def test_first_accepted_follows_the_finite_set_law(order, expected):
    assert law_of_first_accepted(order) == pytest.approx(expected, abs=TOLERANCE)


def test_the_rule_itself_shuffles_by_default():
    rule = RejectionSampling(RejectionSampling.Config(beta=1.0, num_accepted=1))
    rng = np.random.default_rng(5)
    counts = np.bincount([rule.select(REWARDS, rng).accepted[0] for _ in range(NUM_DRAWS)], minlength=3)
    assert counts / NUM_DRAWS == pytest.approx((0.059370, 0.175642, 0.764988), abs=TOLERANCE)


def test_with_64_draws_the_first_accepted_follows_pi_r():
    """pi_sft=(.5,.3,.2), r=(0,1,2), beta=1: duplicates kept, about (.178,.295,.527); by text, .087 .207 .707."""
    rng = np.random.default_rng(11)
    texts = rng.choice(3, size=(NUM_DRAWS, 64), p=[0.5, 0.3, 0.2])
    order = np.arange(64)
    first = [row[rejection_sample(REWARDS[row], order, 1.0, 1, rng).accepted[0]] for row in texts]
    assert np.bincount(first) / NUM_DRAWS == pytest.approx((0.179, 0.2919, 0.5291), abs=TOLERANCE)


def test_acceptance_rate_of_an_uncapped_pass_is_that_of_theorem_1():
    rng = np.random.default_rng(3)
    texts = rng.choice(3, size=200_000, p=[0.5, 0.3, 0.2])
    assert acceptance_probabilities(REWARDS[texts], 1.0).mean() == pytest.approx(0.378031, abs=0.005)


def test_a_rejected_candidate_stays_and_is_retried():
    """r=(0,1), beta=1, k=2: the first pass takes both with probability 1/e, else the second takes the rest."""
    rng = np.random.default_rng(8)
    order = np.arange(2)
    drawn = [rejection_sample(np.array([0.0, 1.0]), order, 1.0, 2, rng) for _ in range(NUM_DRAWS)]
    assert {(d.num_rounds, d.num_visits, *d.accepted) for d in drawn} == {(1, 2, 0, 1), (2, 3, 1, 0)}
    assert np.mean([d.num_rounds == 1 for d in drawn]) == pytest.approx(np.exp(-1), abs=TOLERANCE)


def test_the_maximum_is_fixed_for_a_pass_and_fresh_for_the_next():
    """Printed algorithm: [10, 0, 0] with k=2 needs a second pass, whose maximum is 0."""
    chosen = select([10.0, 0.0, 0.0], beta=0.01, num_accepted=2, shuffle=False)
    assert chosen.accepted.tolist() == [0, 1]
    assert (chosen.num_rounds, chosen.num_visits) == (2, 3 + 1)


def test_beta_zero_takes_the_highest_rewards_in_descending_order():
    chosen = select([0.3, 2.0, -1.0, 5.0, 2.0], beta=0, num_accepted=4, shuffle=False)
    assert chosen.accepted.tolist() == [3, 1, 4, 0]


def test_beta_zero_breaks_ties_by_the_shuffled_order():
    firsts = {select([1.0] * 4, seed, beta=0, num_accepted=1).accepted[0] for seed in range(60)}
    assert firsts == {0, 1, 2, 3}


def test_beta_zero_is_the_limit_of_small_beta():
    rewards = np.random.default_rng(1).normal(size=40)
    assert select(rewards, beta=0).accepted.tolist() == select(rewards, beta=1e-12).accepted.tolist()


def test_large_beta_takes_the_first_candidates_in_one_round():
    chosen = select([0.0, 5.0, 1.0, 9.0, 2.0], beta=1e15, num_accepted=3, shuffle=False)
    assert chosen.accepted.tolist() == [0, 1, 2]
    assert (chosen.num_rounds, chosen.num_visits) == (1, 3)


GRID = st.lists(st.integers(-40, 40), min_size=1, max_size=80)  # whole numbers: sums and products are exact


@given(GRID, st.integers(0, 2**32), st.integers(1, 12), st.sampled_from([0, 0.25, 0.5, 4.0]))
def test_outputs_are_distinct_and_as_many_as_asked_or_there_are(rewards, seed, k, beta):
    chosen = select(rewards, seed, beta=beta, num_accepted=k)
    assert chosen.accepted.dtype == np.int32
    assert len(set(chosen.accepted.tolist())) == len(chosen.accepted) == min(k, len(rewards))
    assert set(chosen.accepted.tolist()) <= set(range(len(rewards)))
    assert 1 <= chosen.num_rounds <= len(chosen.accepted) <= chosen.num_visits
    assert chosen.num_visits <= chosen.num_rounds * len(rewards)


@given(GRID, st.integers(0, 2**32), st.integers(-1000, 1000), st.sampled_from([0.5, 2.0, 8.0]))
def test_shifting_rewards_or_scaling_them_with_beta_changes_nothing(rewards, seed, shift, scale):
    base = select(rewards, seed).accepted.tolist()
    assert select(np.array(rewards) + shift, seed).accepted.tolist() == base
    assert select(np.array(rewards) * scale, seed, beta=0.5 * scale).accepted.tolist() == base


def test_the_same_generator_gives_the_same_outcome_and_another_one_another():
    rewards = np.random.default_rng(0).normal(size=64)
    outcomes = {tuple(select(rewards, seed).accepted) for seed in range(8)}
    assert tuple(select(rewards, 3).accepted) == tuple(select(rewards, 3).accepted)
    assert len(outcomes) == 8


def test_a_shortfall_returns_every_candidate():
    assert sorted(select([1.0, 2.0, 3.0], num_accepted=8).accepted.tolist()) == [0, 1, 2]
    assert select([], num_accepted=8).accepted.tolist() == []


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("beta", [0, 0.5])
def test_a_reward_that_is_not_finite_is_refused(bad, beta):
    with pytest.raises(ValueError, match="candidate 1"):
        select([1.0, bad, 2.0], beta=beta)


@pytest.mark.filterwarnings("error")
def test_huge_rewards_do_not_overflow():
    chosen = select([1.7e308, -1.7e308, 0.0], beta=1e-3, num_accepted=3, shuffle=False)
    assert chosen.accepted.tolist() == [0, 2, 1]


@pytest.mark.parametrize("options", [{"beta": -0.1}, {"beta": float("nan")}, {"num_accepted": 0}, {"k": 8}])
def test_impossible_settings_are_refused(options):
    with pytest.raises(ValidationError):
        RejectionSampling.Config(**options)
