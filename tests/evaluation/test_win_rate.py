"""Win rates: counts done by hand, symmetries, and the interval."""

from dataclasses import asdict

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rayflow.core.evaluation_rows import Verdict
from rayflow.core.rows import Scored
from rayflow.errors import DataError, RewardError
from rayflow.evaluation.win_rate import compare, verdict, verdicts, win_rate

# Whole numbers, so that ties are frequent and a shift is exact.
rewards = st.lists(st.integers(-5, 5), min_size=1, max_size=8).map(lambda v: np.array(v, np.float64))


def scored(prompt_id: str, values: list[float], lengths: list[int]) -> Scored:
    return Scored(
        prompt_id=prompt_id,
        prompt="p",
        messages=(),
        target=None,
        prompt_token_ids=np.array([1], np.int32),
        responses=tuple("r" for _ in values),
        token_ids=tuple(np.zeros(length, np.int32) for length in lengths),
        logprobs=np.zeros(len(values), np.float32),
        finish_reasons=tuple("stop" for _ in values),
        seed=0,
        rewards=np.array(values),
    )


def verdict_of(share: float, prompt_id: str = "p") -> Verdict:
    return Verdict(
        prompt_id=prompt_id,
        win_rate=share,
        tie_rate=0.0,
        policy_reward=1.0,
        baseline_reward=0.0,
        policy_tokens=4.0,
        baseline_tokens=4.0,
    )


def test_compare_counts_wins_and_half_ties_over_all_pairs():
    # 3 beats 1, 2; 2 beats 1 and ties 2; 0 loses twice: 3 wins + 1 tie of 6 -> 3.5 / 6.
    win, tie = compare(np.array([3.0, 2.0, 0.0]), np.array([1.0, 2.0]))
    assert win == pytest.approx(3.5 / 6)
    assert tie == pytest.approx(1 / 6)


def test_verdict_of_two_groups_has_their_means():
    row = verdict(scored("a", [1.0, 3.0], [2, 6]), scored("a", [2.0], [5]))
    assert asdict(row) == {
        "prompt_id": "a",
        "win_rate": 0.5,
        "tie_rate": 0.0,
        "policy_reward": 2.0,
        "baseline_reward": 2.0,
        "policy_tokens": 4.0,
        "baseline_tokens": 5.0,
    }


def test_verdicts_keep_the_policys_order_and_only_common_prompts():
    policy = [scored(name, [1.0], [1]) for name in "cab"]
    baseline = [scored(name, [0.0], [1]) for name in "bcx"]
    assert [row.prompt_id for row in verdicts(policy, baseline)] == ["c", "b"]


def test_nothing_in_common_is_an_error():
    with pytest.raises(DataError, match="none in common"):
        verdicts([scored("a", [1.0], [1])], [scored("b", [1.0], [1])])


def test_different_prompts_are_never_compared():
    with pytest.raises(DataError, match="same held-out prompts"):
        verdict(scored("a", [1.0], [1]), scored("b", [1.0], [1]))


@pytest.mark.parametrize("bad", [[], [np.nan], [1.0, np.inf]])
def test_rewards_that_cannot_be_compared_name_the_prompt(bad):
    with pytest.raises(RewardError, match="Prompt a: .*baseline"):
        verdict(scored("a", [1.0], [1]), scored("a", bad, [1] * len(bad)))


def test_win_rate_is_the_mean_over_prompts_not_over_samples():
    result = win_rate([verdict_of(1.0), verdict_of(0.25), verdict_of(0.25)])
    assert result.win_rate == pytest.approx(0.5)
    assert (result.num_prompts, result.policy_reward, result.policy_tokens) == (3, 1.0, 4.0)


def test_interval_of_a_fair_coin_matches_the_normal_approximation():
    # 400 prompts, half won: standard error sqrt(.25 / 400) = .025, so 95% is .5 -+ .049.
    result = win_rate([verdict_of(float(i % 2)) for i in range(400)])
    assert result.low == pytest.approx(0.451, abs=0.004)
    assert result.high == pytest.approx(0.549, abs=0.004)
    assert not result.excludes_half


def test_a_clear_win_excludes_half():
    result = win_rate([verdict_of(float(i % 5 > 0)) for i in range(400)])
    assert result.win_rate == pytest.approx(0.8)
    assert result.excludes_half


def test_a_few_unanimous_prompts_do_not_exclude_half():
    # 2 * .5**5 = .0625 > .05 >= 2 * .5**6 = .03125.
    assert not win_rate([verdict_of(1.0)] * 5).excludes_half
    assert win_rate([verdict_of(1.0)] * 6).excludes_half


def test_a_few_wins_among_many_ties_do_not_exclude_half():
    few = win_rate([verdict_of(1.0)] * 5 + [verdict_of(0.5)] * 300)
    assert few.low > 0.5
    assert not few.excludes_half
    assert win_rate([verdict_of(1.0)] * 6 + [verdict_of(0.5)] * 300).excludes_half


def test_one_prompt_gives_a_point():
    result = win_rate([verdict_of(0.75)])
    assert (result.low, result.win_rate, result.high) == (0.75, 0.75, 0.75)
    assert not result.excludes_half


def test_no_verdicts_is_an_error():
    with pytest.raises(DataError, match="at least one verdict"):
        win_rate([])


def test_the_seed_alone_decides_the_interval():
    rows = [verdict_of(share) for share in np.random.default_rng(0).random(50)]
    assert win_rate(rows, seed=1) == win_rate(rows, seed=1)
    assert win_rate(rows, seed=1) != win_rate(rows, seed=2)


@given(rewards, rewards)
def test_swapping_the_sides_gives_the_complement(policy, baseline):
    win, tie = compare(policy, baseline)
    swapped, swapped_tie = compare(baseline, policy)
    assert win + swapped == pytest.approx(1.0)
    assert tie == swapped_tie


@given(rewards, rewards, st.integers(-1000, 1000))
def test_shifting_both_sides_changes_nothing(policy, baseline, shift):
    assert compare(policy + shift, baseline + shift) == compare(policy, baseline)


@given(rewards)
def test_a_model_against_itself_is_even(values):
    assert compare(values, values)[0] == pytest.approx(0.5)


@settings(max_examples=40, deadline=None)
@given(st.lists(st.integers(0, 8).map(lambda v: v / 8), min_size=1, max_size=40), st.integers(0, 99))
def test_interval_contains_the_point_and_stays_in_range(shares, seed):
    result = win_rate([verdict_of(share) for share in shares], seed=seed, num_resamples=500)
    assert 0 <= result.low <= result.win_rate + 1e-12
    assert result.win_rate <= result.high + 1e-12 <= 1 + 2e-12
