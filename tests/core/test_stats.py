"""Bootstrap intervals against a direct resampling of the values."""

import numpy as np
import pytest

from rayflow.core.stats import bootstrap_mean, excludes_half


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
