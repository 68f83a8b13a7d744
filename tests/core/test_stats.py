"""Bootstrap intervals against a direct resampling of the values; log-odds."""

import math

import numpy as np
import pytest

from rayflow.core.stats import (
    BlockMeans,
    bootstrap_mean,
    bootstrap_means,
    excludes_half,
    holm,
    logit,
    num_decided,
    sigmoid,
    t_quantile,
    t_tails,
)


def test_multinomial_resamples_have_the_law_of_resampled_values():
    values = np.random.default_rng(0).exponential(size=60)
    mean, low, high = bootstrap_mean(values, np.random.default_rng(1))
    direct = np.random.default_rng(2).choice(values, size=(10_000, 60)).mean(axis=1)
    assert mean == pytest.approx(values.mean())
    assert (low, high) == pytest.approx(np.quantile(direct, [0.025, 0.975]), abs=0.02)


def test_equal_values_give_a_point_without_rounding():
    assert bootstrap_mean(np.full(7, 0.1), np.random.default_rng(0)) == (0.1, 0.1, 0.1)


def test_many_values_are_resampled_in_chunks():
    values = np.random.default_rng(0).random(3000)
    _, low, high = bootstrap_mean(values, np.random.default_rng(1), num_resamples=1500)
    # Standard error of a uniform mean: 1 / sqrt(12 * 3000) = .0053.
    assert (high - low) == pytest.approx(2 * 1.96 * 0.00527, rel=0.15)


@pytest.mark.parametrize(
    ("low", "high", "items", "expected"),
    [(0.51, 0.6, 100, True), (0.4, 0.49, 100, True), (0.49, 0.6, 100, False), (1.0, 1.0, 5, False)],
)
def test_half_is_excluded_only_with_enough_items(low, high, items, expected):
    assert excludes_half(low, high, items) is expected


@pytest.mark.parametrize(("wins", "expected"), [(4, False), (5, False), (6, True)])
def test_ties_are_no_evidence(wins, expected):
    """However many: a sign test leaves them out."""
    shares = np.array([1.0] * wins + [0.5] * 394)
    _, low, high = bootstrap_mean(shares, np.random.default_rng(0))
    assert low > 0.5
    assert num_decided(shares) == wins
    assert excludes_half(low, high, len(shares), num_decided(shares)) is expected


def test_columns_resampled_together_have_the_intervals_of_each_alone():
    values = np.random.default_rng(0).exponential(size=(80, 2)) * [1, 100]
    found = bootstrap_means(values, np.random.default_rng(1), num_resamples=10_000)
    for column in range(2):
        alone = bootstrap_mean(values[:, column], np.random.default_rng(2))
        assert found[:, column] == pytest.approx(alone, rel=0.02)


def test_few_rows_are_blocks_of_their_own_however_they_arrive():
    values = np.random.default_rng(0).random((50, 3))
    blocks = BlockMeans(50)
    for part in np.split(values, [1, 20, 44]):
        blocks.add(part)
    assert np.array_equal(blocks.means, values)
    direct = bootstrap_means(values, np.random.default_rng(1))
    assert blocks.intervals(np.random.default_rng(1)) == pytest.approx(direct)


def test_many_rows_become_equal_blocks_whose_interval_is_that_of_the_rows():
    values = np.random.default_rng(0).normal(size=(20_010, 1))
    blocks = BlockMeans(20_010, max_blocks=500)
    for part in np.array_split(values, 7):
        blocks.add(part)
    size = 41  # 20,010 / 500, rounded up
    assert len(blocks.means) == 489 and blocks.means[3] == pytest.approx(values[3 * size : 4 * size].mean())
    assert blocks.means[-1] == pytest.approx(values[488 * size :].mean())
    mean, low, high = blocks.intervals(np.random.default_rng(1))[:, 0]
    assert mean == pytest.approx(values.mean())
    assert high - low == pytest.approx(2 * 1.96 / np.sqrt(20_010), rel=0.12)


def test_even_odds_are_zero_and_the_other_side_has_the_other_sign():
    assert logit(0.5) == 0.0
    p = np.array([1e-6, 0.1, 0.25, 0.731058578630005])
    assert logit(p) == pytest.approx([-13.815510, -2.197225, -1.098612, 1.0], abs=1e-5)
    assert logit(1 - p) == pytest.approx(-logit(p), abs=1e-9)


def test_sigmoid_takes_log_odds_back_and_never_overflows():
    x = np.linspace(-20, 20, 41)
    assert logit(sigmoid(x)) == pytest.approx(x, abs=1e-6)
    with np.errstate(all="raise", under="ignore"):
        assert sigmoid(np.array([-1e4, 0.0, 1e4])).tolist() == [0.0, 0.5, 1.0]


@pytest.mark.parametrize(
    "freedom, quantile",
    [(1, 12.706205), (2, 4.302653), (3, 3.182446), (10, 2.228139), (120, 1.979930), (1e4, 1.960201)],
)
def test_students_quantiles_are_those_of_the_tables(freedom, quantile):
    assert t_quantile(freedom) == pytest.approx(quantile, abs=1e-5)
    assert t_tails(t_quantile(freedom), freedom) == pytest.approx(0.05, abs=1e-9)


def test_students_tails_are_those_in_closed_form():
    assert t_tails(1.0, 1) == pytest.approx(0.5, abs=1e-12)  # Cauchy: 1 - 2 atan(t) / pi
    assert t_tails(3.0, 2) == pytest.approx(1 - 3 / math.sqrt(11), abs=1e-12)
    assert t_tails(0.0, 7) == pytest.approx(1.0, abs=1e-12)
    assert t_tails(40.0, 2) == pytest.approx(1 - 40 / math.sqrt(1602), rel=1e-9)


def test_holms_adjustment_is_that_of_its_definition():
    # Sorted: 0.01 * 4, 0.02 * 3, 0.03 * 2 (raised to the one before), 0.9.
    assert holm(np.array([0.03, 0.01, 0.9, 0.02])).tolist() == pytest.approx([0.06, 0.04, 0.9, 0.06])
    assert holm(np.array([0.6, 0.7])).tolist() == [1.0, 1.0]
    assert holm(np.array([])).tolist() == []
