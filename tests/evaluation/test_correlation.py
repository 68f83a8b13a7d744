"""Correlations against values worked out by hand."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rayflow.evaluation.correlation import pearson, ranks, spearman


def test_equal_values_share_the_mean_of_their_ranks():
    assert ranks(np.array([3.0, 1.0, 3.0, 9.0])) == pytest.approx([2.5, 1, 2.5, 4])
    assert ranks(np.array([[2, 1], [5, 5]])).tolist() == [[2, 1], [1.5, 1.5]]


def test_correlations_of_a_small_table():
    x, y = np.array([1.0, 2.0, 3.0, 4.0]), np.array([1.0, 4.0, 9.0, 16.0])
    assert spearman(x, y) == pytest.approx(1)
    assert pearson(x, y) == pytest.approx(25 / np.sqrt(5 * 129))  # sums of squares 5 and 129, of products 25
    assert pearson(x, -y) == pytest.approx(-25 / np.sqrt(5 * 129))
    assert spearman(np.array([1.0, 2, 3]), np.array([1.0, 3, 2])) == pytest.approx(0.5)


def test_each_row_is_a_group_of_its_own():
    x = np.array([[1.0, 2.0, 3.0], [10.0, 20.0, 30.0]])
    y = np.array([[3.0, 2.0, 1.0], [1.0, 2.0, 3.0]])
    assert pearson(x, y) == pytest.approx([-1, 1])


def test_a_constant_has_no_correlation():
    found = pearson(np.array([[0.1, 0.1, 0.1], [1.0, 2.0, 3.0]]), np.array([[1.0, 2, 3], [1.0, 2, 3]]))
    assert np.isnan(found[0]) and found[1] == pytest.approx(1)


@given(st.lists(st.integers(-9, 9), min_size=2, max_size=20, unique=True), st.randoms())
def test_ranks_ignore_any_increasing_change_of_scale(values, random):
    x = np.array(values, float)
    y = np.array(random.sample(values, len(values)), float)
    assert spearman(np.exp(x), y**3) == pytest.approx(spearman(x, y))
