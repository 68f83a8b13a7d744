"""Krippendorff's alpha on the worked examples of his paper and of the literature."""

from __future__ import annotations

import numpy as np
import pytest

from rayflow.evaluation.agreement import krippendorff_alpha

_ = float("nan")
# Krippendorff (2011), sections C to F: four observers, twelve units, missing values.
FOUR = np.array(
    [
        [1, 2, 3, 3, 2, 1, 4, 1, 2, _, _, _],
        [1, 2, 3, 3, 2, 2, 4, 1, 2, 5, _, 3],
        [_, 3, 3, 3, 2, 3, 4, 2, 2, 5, 1, _],
        [1, 2, 3, 3, 2, 4, 4, 1, 2, 5, 1, _],
    ]
)
# Section A: two observers, ten units, two values.
TWO = np.array([[0, 1, 0, 0, 0, 0, 0, 0, 1, 0], [1, 1, 1, 0, 0, 1, 0, 0, 0, 0]], dtype=float)
# Three coders, fifteen units, most of them missing (the example of the article in Wikipedia).
THREE = np.array(
    [
        [_, _, _, _, _, 3, 4, 1, 2, 1, 1, 3, 3, _, 3],
        [1, _, 2, 1, 3, 3, 4, 3, _, _, _, _, _, _, _],
        [_, _, 2, 1, 3, 4, 4, _, 2, 1, 1, 3, 3, _, 4],
    ]
)


@pytest.mark.parametrize(
    ("ratings", "level", "alpha"),
    [
        (TWO, "nominal", 0.095),
        (FOUR, "nominal", 0.743),
        (FOUR, "ordinal", 0.815),
        (FOUR, "interval", 0.849),
        (THREE, "nominal", 0.691),
        (THREE, "interval", 0.811),
    ],
)
def test_the_published_values_come_out(ratings, level, alpha):
    assert krippendorff_alpha(ratings, level) == pytest.approx(alpha, abs=5e-4)


def test_order_of_raters_and_units_and_a_unit_rated_once_change_nothing():
    rng = np.random.default_rng(0)
    mixed = FOUR[rng.permutation(4)][:, rng.permutation(12)]
    more = np.concatenate([mixed, np.array([[5.0], [_], [_], [_]])], axis=1)
    for level in ("nominal", "ordinal", "interval"):
        assert krippendorff_alpha(more, level) == pytest.approx(krippendorff_alpha(FOUR, level))


def test_the_extremes():
    same = np.array([[1.0, 2, 3], [1, 2, 3]])
    assert krippendorff_alpha(same, "ordinal") == 1
    assert krippendorff_alpha(np.array([[1.0, 2], [2, 1]]), "nominal") < 0
    assert np.isnan(krippendorff_alpha(np.ones((2, 4)), "nominal"))  # nothing varies
    assert np.isnan(krippendorff_alpha(same[:1], "nominal"))  # one rater
    noise = np.random.default_rng(1).integers(1, 6, (3, 4000)).astype(float)
    assert krippendorff_alpha(noise, "ordinal") == pytest.approx(0, abs=0.03)
