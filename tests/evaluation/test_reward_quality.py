"""Accuracy, calibration and length of a reward model, on numbers worked out by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rayflow.core.seeds import rng
from rayflow.core.stats import logit, sigmoid, wilson
from rayflow.errors import DataError
from rayflow.evaluation.reward_quality import (
    JudgedPairs,
    calibration_error,
    length_effect,
    reliability,
    reward_quality,
)


def pairs(margins, chosen_tokens=None, rejected_tokens=None, prompts=None) -> JudgedPairs:
    """A pairwise model's verdicts; where not given, lengths are equal and every pair is its own prompt."""
    q = len(margins)
    return JudgedPairs(
        prompts=np.arange(q) if prompts is None else np.array(prompts),
        margins=np.array(margins, dtype=np.float64),
        chosen_tokens=np.full(q, 5) if chosen_tokens is None else np.array(chosen_tokens),
        rejected_tokens=np.full(q, 5) if rejected_tokens is None else np.array(rejected_tokens),
        chosen_scores=np.empty(0),
        rejected_scores=np.empty(0),
        scores=np.empty(0),
        score_tokens=np.empty(0),
    )


def test_accuracy_counts_ties_half_and_every_prompt_once():
    found = reward_quality(pairs([1.0, -1.0, 0.0, 2.0], prompts=[0, 0, 0, 1]), seed=0, num_resamples=200)
    assert found.accuracy == pytest.approx((0.5 + 1) / 2)  # not 2.5 of 4 pairs
    assert (found.num_pairs, found.num_prompts, found.tie_rate) == (4, 2, 0.25)
    expected = np.mean([math.log1p(math.exp(-m)) for m in (1.0, -1.0, 0.0, 2.0)])
    assert found.log_loss == pytest.approx(expected)


def test_many_pairs_of_one_prompt_do_not_narrow_the_interval():
    margins = np.where(np.arange(40) % 2, 1.0, -1.0)
    apart = reward_quality(pairs(margins), seed=0)
    prompts = np.arange(40) % 2  # all right ones belong to one prompt, all wrong ones to another
    together = reward_quality(pairs(margins, prompts=prompts), seed=0)
    assert apart.accuracy == together.accuracy == 0.5
    assert apart.high - apart.low < 0.4 and (together.low, together.high) == (0.0, 1.0)


def test_a_model_that_knows_its_own_odds_is_calibrated_and_one_that_doubles_them_is_not():
    generator = np.random.default_rng(0)
    odds = generator.normal(0, 1.5, 200_000)
    margins = np.where(generator.random(len(odds)) < sigmoid(odds), odds, -odds)  # labels drawn from the odds
    honest = calibration_error(reliability(margins, rng(0, "a"), 10))
    boastful = calibration_error(reliability(2 * margins, rng(0, "a"), 10))
    assert honest < 0.01
    assert boastful == pytest.approx(np.mean(np.abs(sigmoid(2 * odds) - sigmoid(odds))), abs=0.01)


def test_the_bins_by_hand():
    class Never:
        """Draws that always ask about the rejected response first, or about the chosen one."""

        def __init__(self, value: float) -> None:
            self.value = value

        def random(self, size: int) -> np.ndarray:
            return np.full(size, self.value)

    margins = logit(np.array([0.95, 0.92, 0.2]))
    about_chosen = reliability(margins, Never(0.0), 10)
    assert [b.count for b in about_chosen] == [0, 0, 1, 0, 0, 0, 0, 0, 0, 2]
    assert about_chosen[9].predicted == pytest.approx(0.935) and about_chosen[9].observed == 1
    assert calibration_error(about_chosen) == pytest.approx((0.05 + 0.08 + 0.8) / 3)
    about_rejected = reliability(margins, Never(0.9), 10)
    assert [b.count for b in about_rejected] == [2, 0, 0, 0, 0, 0, 0, 0, 1, 0]
    assert about_rejected[0].observed == 0 and about_rejected[0].predicted == pytest.approx(0.065)
    assert (about_rejected[0].low, about_rejected[9].high) == (0.0, 1.0)
    assert math.isnan(about_rejected[5].predicted)


def test_certainty_falls_into_the_last_bin():
    assert reliability(np.array([800.0, -800.0]), rng(0, "a"), 4)[3].count in (0, 1, 2)
    assert sum(b.count for b in reliability(np.array([800.0, -800.0]), rng(0, "a"), 4)) == 2


def test_a_model_that_counts_tokens_is_found_out():
    generator = np.random.default_rng(1)
    chosen, rejected = generator.integers(1, 50, 300), generator.integers(1, 50, 300)
    found = length_effect(pairs(0.1 * (chosen - rejected), chosen, rejected))
    assert (found.accuracy_longer, found.accuracy_shorter, found.longer_preferred) == (1, 0, 1)
    assert found.pearson == pytest.approx(1) and found.spearman == pytest.approx(1)
    assert found.num_unequal == np.count_nonzero(chosen != rejected)
    assert found.longer_chosen == pytest.approx(np.sum(chosen > rejected) / found.num_unequal)
    assert math.isnan(found.score_pearson)


def test_length_by_hand():
    found = length_effect(pairs([1.0, -1.0, 1.0, 1.0], [9, 9, 1, 5], [4, 4, 8, 5]))
    assert (found.num_unequal, found.longer_chosen) == (3, pytest.approx(2 / 3))
    assert (found.accuracy_longer, found.accuracy_shorter) == (0.5, 1)
    assert found.longer_preferred == pytest.approx(1 / 3)
    # Both orientations: sum of margin x difference over the roots of the sums of squares.
    assert found.pearson == pytest.approx((5 - 5 - 7) / math.sqrt(4 * (25 + 25 + 49)))


@given(st.lists(st.tuples(st.floats(-9, 9), st.integers(1, 30), st.integers(1, 30)), min_size=2, max_size=30))
def test_correlations_do_not_depend_on_which_response_is_called_chosen(rows):
    margins, chosen, rejected = (np.array(column) for column in zip(*rows, strict=True))
    one, other = (
        length_effect(pairs(margins, chosen, rejected)),
        length_effect(pairs(-margins, rejected, chosen)),
    )
    for name in ("pearson", "spearman", "longer_preferred"):
        assert getattr(one, name) == pytest.approx(getattr(other, name), nan_ok=True)


def test_no_pairs_is_an_error():
    with pytest.raises(DataError, match="at least one held-out pair"):
        reward_quality(pairs([]), seed=0)


def test_wilsons_interval_is_the_published_one():
    # Newcombe, Statistics in Medicine 17 (1998), table I: 15 of 148 and 0 of 20 at 95%.
    assert wilson(15 / 148, 148) == pytest.approx((0.0624, 0.1605), abs=5e-4)
    assert wilson(0.0, 20) == pytest.approx((0.0, 0.1611), abs=5e-4)
