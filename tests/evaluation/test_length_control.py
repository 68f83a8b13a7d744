"""The win rate at equal length: what it must give where the truth is known."""

from __future__ import annotations

import numpy as np
import pytest

from rayflow.core.stats import bootstrap_mean, sigmoid
from rayflow.evaluation.length_control import _by_prompt, _fit, length_controlled


def drawn(constant: float, slope: float, num: int = 4000, shift: float = 30.0, each: int = 4, seed: int = 0):
    """Comparisons whose odds are known: (wins, differences, prompts)."""
    rng = np.random.default_rng(seed)
    differences = rng.normal(shift, 100, num)
    odds = constant + slope * np.tanh(differences / differences.std())
    return (rng.random(num) < sigmoid(odds)).astype(float), differences, np.arange(num) // each


@pytest.mark.parametrize(("constant", "slope"), [(0.5, 1.5), (-0.7, 0.8), (0.0, 0.0), (0.0, 2.0)])
def test_the_truth_at_equal_length_is_inside_the_interval(constant, slope):
    wins, differences, prompts = drawn(constant, slope)
    found = length_controlled(wins, differences, prompts, num_resamples=2000)
    assert found.low < sigmoid(constant) < found.high
    assert found.win_rate == pytest.approx(float(sigmoid(constant)), abs=0.03)
    assert found.slope == pytest.approx(slope, abs=0.2)
    assert found.high - found.low < 0.08


def test_a_policy_that_wins_by_length_alone_is_seen_through():
    wins, differences, prompts = drawn(0.0, 3.0, shift=120.0)
    found = length_controlled(wins, differences, prompts, num_resamples=2000)
    assert wins.mean() > 0.75 and found.low < 0.5 < found.high


def test_swapping_the_sides_gives_the_complement():
    wins, differences, prompts = drawn(0.4, 1.0)
    ours = length_controlled(wins, differences, prompts, num_resamples=10)
    theirs = length_controlled(1 - wins, -differences, prompts, num_resamples=10)
    assert ours.win_rate == pytest.approx(1 - theirs.win_rate, abs=1e-9)
    assert ours.slope == pytest.approx(theirs.slope, abs=1e-9)


def test_equal_lengths_leave_the_raw_win_rate():
    wins = np.array([1.0, 1.0, 0.5, 0.0] * 50)
    found = length_controlled(wins, np.zeros(200), np.arange(200), num_resamples=100)
    assert found.win_rate == pytest.approx(wins.mean(), abs=1e-3) and found.slope == 0.0


def test_a_constant_difference_cannot_be_told_from_quality():
    found = length_controlled(np.array([1.0, 0.0]), np.array([5.0, 5.0]), np.arange(2), num_resamples=10)
    assert np.isnan(found.win_rate) and np.isnan(found.low)


def test_a_policy_that_always_wins_has_a_finite_fit():
    rng = np.random.default_rng(0)
    found = length_controlled(np.ones(60), rng.normal(0, 50, 60), np.arange(60), num_resamples=100)
    assert 0.97 < found.low <= found.win_rate <= found.high < 1 and np.isfinite(found.slope)


@pytest.mark.parametrize(("constant", "slope"), [(0.5, 1.0), (3.0, 1.5), (-2.5, 4.0)])
def test_the_interval_is_that_of_fits_one_by_one(constant, slope):
    wins, differences, prompts = drawn(constant, slope, num=300, each=2, seed=3)
    found = length_controlled(wins, differences, prompts, num_resamples=4000)
    rng = np.random.default_rng(1)
    x = np.stack([np.ones(300), np.tanh(differences / differences.std())], axis=1)
    refits = []
    for _ in range(1500):
        counts = rng.multinomial(150, np.full(150, 1 / 150))
        refits.append(sigmoid(_fit(x, wins, counts[prompts] / 2)[0]))
    assert [found.low, found.high] == pytest.approx(np.quantile(refits, [0.025, 0.975]), abs=0.01)


@pytest.mark.parametrize(("num_won", "num_prompts"), [(38, 40), (2, 40), (20, 40), (300, 301)])
def test_without_length_differences_the_interval_is_that_of_the_raw_win_rate(num_won, num_prompts):
    wins = (np.arange(num_prompts) < num_won).astype(float)
    found = length_controlled(wins, np.zeros(num_prompts), np.arange(num_prompts))
    raw = bootstrap_mean(wins, np.random.default_rng(0))
    assert (found.win_rate, found.low, found.high) == pytest.approx(raw, abs=0.003)


def test_many_comparisons_are_divided_between_lengths_that_stay_as_long_as_they_were():
    rng = np.random.default_rng(0)
    length, weights, prompts = np.tanh(rng.normal(0, 1, 600)), rng.random(600), np.arange(600) // 3
    for lengths in (length, length[prompts % 50], np.zeros(600)):
        nodes, masses = _by_prompt(lengths, weights, prompts)
        assert len(nodes) <= 101 and (masses >= 0).all()
        for power in (0, 1):
            assert masses @ nodes**power == pytest.approx(np.bincount(prompts, weights * lengths**power))


def test_prompts_count_the_same_however_many_comparisons_they_have():
    wins = np.array([1.0] * 9 + [0.0])
    prompts = np.array([0] * 9 + [1])
    found = length_controlled(wins, np.zeros(10), prompts, num_resamples=10)
    assert found.win_rate == pytest.approx(0.5)


@pytest.mark.parametrize("ratio", [4, 8, 40])
@pytest.mark.parametrize("chance", [0.5, 0.9])
def test_nothing_is_told_where_one_side_is_always_much_longer(ratio, chance):
    """tanh of such differences is a constant: what would be fitted is the prior's."""
    generator = np.random.default_rng(ratio)
    wins = (generator.random(200) < chance).astype(float)
    found = length_controlled(wins, 100.0 * ratio + generator.uniform(-150, 150, 200), np.arange(200))
    assert np.isnan([found.win_rate, found.low, found.high, found.slope]).all()


def test_one_other_length_is_not_enough():
    found = length_controlled(np.array([1.0] * 70 + [0.0] * 30), np.array([3.0] * 99 + [4.0]), np.arange(100))
    assert np.isnan(found.win_rate)


def test_lengths_that_differ_by_their_deviation_still_tell():
    generator = np.random.default_rng(1)
    wins = (generator.random(400) < 0.9).astype(float)
    found = length_controlled(wins, 100 + 100 * generator.standard_normal(400), np.arange(400))
    assert found.low < 0.9 < found.high
