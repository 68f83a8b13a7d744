"""Best-of-N and top-k: expectations against all subsets, divergences against integrals done by hand."""

import math
from itertools import combinations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rayflow.evaluation.best_of import best_of_kl, best_of_weights, top_k_kl, top_k_weights


@given(st.lists(st.integers(-5, 5), min_size=1, max_size=9), st.data())
def test_best_of_n_is_the_mean_maximum_over_all_subsets(values, data):
    best_of = data.draw(st.integers(1, len(values)))
    brute = np.mean([max(subset) for subset in combinations(values, best_of)])
    assert best_of_weights(len(values), best_of) @ np.sort(values) == pytest.approx(brute)


def test_best_of_one_is_the_mean_and_best_of_all_the_maximum():
    assert best_of_weights(4, 1) == pytest.approx([0.25] * 4)
    assert best_of_weights(4, 4) == pytest.approx([0, 0, 0, 1])
    assert best_of_weights(3, 2) == pytest.approx([0, 1 / 3, 2 / 3])


@pytest.mark.parametrize("best_of", [1, 2, 64, 2048, 4095, 4096])
def test_many_candidates_keep_the_weights_a_distribution(best_of):
    weights = best_of_weights(4096, best_of)
    assert np.all(weights >= 0)
    assert weights.sum() == pytest.approx(1, rel=1e-9)


def test_top_k_weights_are_the_mean_of_the_highest():
    assert top_k_weights(5, 2) @ np.arange(5.0) == pytest.approx(3.5)
    assert top_k_weights(5, 5) @ np.arange(5.0) == pytest.approx(2)


def test_the_divergence_of_best_of_n():
    assert best_of_kl(1) == 0
    assert best_of_kl(2) == pytest.approx(math.log(2) - 0.5)
    assert best_of_kl(64) == pytest.approx(3.174508, abs=1e-6)


@pytest.mark.parametrize("n", [1, 2, 3, 10, 64, 1000])
def test_top_k_at_its_ends_is_best_of_n_and_no_selection(n):
    assert top_k_kl(n, 1) == pytest.approx(best_of_kl(n), abs=1e-7)
    assert top_k_kl(n, n) == pytest.approx(0, abs=1e-12)


def test_top_two_of_three_has_the_divergence_of_its_integral():
    # g(v) = (3/2) (1 - v^2); int_0^1 g log g dv = log 6 - 5/3.
    assert top_k_kl(3, 2) == pytest.approx(math.log(6) - 5 / 3, abs=1e-9)


@pytest.mark.parametrize(("n", "k"), [(64, 8), (16, 4), (1024, 128)])
def test_top_k_lies_between_no_selection_and_a_fixed_share(n, k):
    # Taking the best share k/n of the distribution itself has KL log(n/k), which finite n falls short of.
    assert top_k_kl(n, 2 * k) < top_k_kl(n, k) < math.log(n / k)
    assert top_k_kl(n, k) > best_of_kl(n // k)


def test_top_k_agrees_with_sampling_it():
    rng, n, k, draws = np.random.default_rng(0), 8, 3, 200_000
    taken = np.sort(rng.random((draws, n)), axis=1)[:, :k]  # v: the share above, small is good
    counts, _ = np.histogram(taken, np.linspace(0, 1, 51))
    shares = counts / counts.sum()
    assert top_k_kl(n, k) == pytest.approx(float(shares @ np.log(np.maximum(shares, 1e-12) * 50)), abs=0.004)


def test_ties_only_lower_the_divergence():
    # Rewards 0 and 1 with equal chance: best-of-2 is 1 with chance 3/4.
    exact = 0.75 * math.log(1.5) + 0.25 * math.log(0.5)
    assert exact < best_of_kl(2)
