"""Ratings by people: means, majority votes with no preference, pairs."""

from __future__ import annotations

import math

import numpy as np
import pytest

from rayflow.errors import DataError
from rayflow.evaluation.human import NO_PREFERENCE, NOT_GIVEN, Rating, human_result

NAMES = ("sft", "rso")


def rating(rater: str, task: str, qualities: tuple[float, float], best: int) -> Rating:
    return Rating(rater, task, np.array(qualities, dtype=float), best)


RATINGS = [
    # t1: 2 of 3 for rso; t2: two share the most votes; t3: most have no preference; t4: rso alone
    rating("ann", "t1", (2, 4), 1),
    rating("ben", "t1", (3, 5), 1),
    rating("cyd", "t1", (4, 3), 0),
    rating("ann", "t2", (3, 3), 0),
    rating("ben", "t2", (2, 4), 1),
    rating("ann", "t3", (5, 5), NO_PREFERENCE),
    rating("ben", "t3", (4, 4), NO_PREFERENCE),
    rating("cyd", "t3", (2, 5), 1),
    rating("cyd", "t4", (1, math.nan), 1),
]


def test_majority_votes_and_votes_are_counted():
    found = human_result(NAMES, RATINGS, num_resamples=200)
    sft, rso = found.systems
    assert (rso.majority, sft.majority) == (2 / 4, 0)
    assert (found.no_preference, found.no_majority) == (1 / 4, 1 / 4)
    assert (rso.votes, sft.votes, found.no_preference_votes) == (5 / 9, 2 / 9, 2 / 9)
    assert (found.num_tasks, found.num_raters, found.num_ratings, found.num_voted) == (4, 3, 9, 4)


def test_quality_is_the_mean_over_tasks_of_the_raters_mean():
    sft, rso = human_result(NAMES, RATINGS, num_resamples=200).systems
    assert sft.quality.mean == pytest.approx((3 + 2.5 + 11 / 3 + 1) / 4)
    assert rso.quality.mean == pytest.approx((4 + 3.5 + 14 / 3) / 3)  # nobody rated it on t4
    assert sft.quality.low <= sft.quality.mean <= sft.quality.high
    assert (rso.num_ratings, rso.counts) == (8, (0, 0, 2, 3, 3))


def test_pairs_compare_the_means_of_each_task_that_has_both():
    (pair,) = human_result(NAMES, RATINGS, num_resamples=200).pairs
    assert (pair.first, pair.second, pair.num_tasks) == (*NAMES, 3)
    assert (pair.win, pair.tie, pair.loss, pair.win_rate.mean) == (0, 0, 1, 0)
    three = human_result(
        ("a", "b", "c"), [Rating("ann", "t", np.array([1.0, 2, 2]), NOT_GIVEN)], num_resamples=10
    )
    assert [(p.first, p.second, p.tie) for p in three.pairs] == [("a", "b", 0), ("a", "c", 0), ("b", "c", 1)]
    assert three.num_voted == 0 and math.isnan(three.systems[0].majority)


def test_agreement_needs_two_raters():
    found = human_result(NAMES, RATINGS, num_resamples=10)
    assert -1 < found.quality_agreement < 1 and -1 < found.best_agreement < 1
    one = human_result(NAMES, [r for r in RATINGS if r.rater == "ann"], num_resamples=10)
    assert math.isnan(one.quality_agreement) and math.isnan(one.best_agreement)


def test_an_answer_without_quality_and_vote_is_no_rating():
    blank = rating("dan", "t9", (math.nan, math.nan), NOT_GIVEN)
    votes = rating("ann", "t8", (math.nan, math.nan), NO_PREFERENCE)
    found = human_result(NAMES, [*RATINGS, blank, votes], num_resamples=10)
    assert (found.num_tasks, found.num_raters, found.num_ratings, found.num_voted) == (5, 3, 10, 5)
    with pytest.raises(DataError, match="no ratings"):
        human_result(NAMES, [blank])


def test_no_ratings_are_an_error():
    with pytest.raises(DataError, match="no ratings"):
        human_result(NAMES, [])
