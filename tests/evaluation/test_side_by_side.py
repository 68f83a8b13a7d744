"""Sampled verdicts to win, tie and loss: worked values, position bias, and verdicts that cannot be told."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rayflow.core.evaluation_rows import SideBySideVerdicts
from rayflow.errors import DataError
from rayflow.evaluation.side_by_side import decide, order_means, side_by_side

A, B, SAME, NONE = 1.0, 0.0, 0.5, float("nan")
"""A judge's words, of which response it was shown first."""


def row(name: str, *items: tuple[list[float], list[float]]) -> SideBySideVerdicts:
    """Items as (what was said with the policy first, what was said with the policy second)."""
    shown = np.array([value for plain, swapped in items for value in (*plain, *swapped)])
    turned = np.array([side for plain, swapped in items for side in [0] * len(plain) + [1] * len(swapped)])
    return SideBySideVerdicts(
        prompt_id=name,
        num_items=len(items),
        judge_answers=("",) * len(shown),
        judge_swapped=turned.astype(np.int32),
        judge_verdicts=np.where(turned == 1, 1 - shown, shown),
    )


# Averages of 8 verdicts, and what follows from them with the paper's threshold of 0.35.
WORKED = [
    ([A, A, A, A], [B, B, B, B], 1.0, "win", "win"),
    ([A, A, A, A], [B, B, B, A], 0.875, "win", "win"),  # .375 and .75 > .35
    ([A, A, A, SAME], [B, B, B, A], 0.8125, "tie", "win"),  # .3125 < .35 < .625
    ([A, A, A, B], [B, B, B, A], 0.75, "tie", "win"),
    ([A, A, A, SAME], [B, B, A, A], 0.6875, "tie", "win"),  # .375 > .35
    ([A, A, A, B], [B, B, A, A], 0.625, "tie", "tie"),  # .25 < .35
    ([A, A, A, A], [A, A, A, A], 0.5, "tie", "tie"),  # always the first one: pure position bias
    ([SAME] * 4, [SAME] * 4, 0.5, "tie", "tie"),
    ([B, B, B, B], [A, A, A, SAME], 0.0625, "loss", "loss"),
    ([B, B, B, B], [A, B, B, A], 0.25, "tie", "loss"),
]


@pytest.mark.parametrize(("plain", "swapped", "score", "distance", "scaled"), WORKED)
def test_eight_verdicts_give_the_worked_decision_under_both_readings(plain, swapped, score, distance, scaled):
    found = side_by_side([row("p", (plain, swapped))], num_resamples=10)
    assert found.score == pytest.approx(score)
    for name, expected in (("distance", distance), ("scaled", scaled)):
        shares = getattr(found, name)
        assert {"win": shares.win, "tie": shares.tie, "loss": shares.loss}[expected] == 1.0, name
        assert shares.win + shares.tie + shares.loss == pytest.approx(1)


def test_exactly_the_threshold_is_a_tie():
    assert decide(np.array([0.85, 0.15, 0.86]), 0.35, "distance").tolist() == [0, 0, 1]
    assert decide(np.array([0.675, 0.325, 0.3]), 0.35, "scaled").tolist() == [0, 0, -1]


def test_position_bias_is_measured_and_does_not_move_the_score():
    always_first = row("p", ([A] * 4, [A] * 4))
    found = side_by_side([always_first], num_resamples=10)
    assert (found.first, found.score, found.consistent) == (1.0, 0.5, 0.0)
    fair = side_by_side([row("p", ([A] * 4, [B] * 4)), row("q", ([B] * 4, [A] * 4))], num_resamples=10)
    assert (fair.first, fair.consistent) == (0.5, 1.0)


def test_a_verdict_that_cannot_be_told_is_counted_and_leaves_the_orders_balanced():
    # Of the swapped order one verdict is left; a plain mean would weigh the first order four times as much.
    found = side_by_side([row("p", ([A, A, A, A], [NONE, NONE, NONE, A]))], num_resamples=10)
    assert found.score == 0.5
    assert (found.num_verdicts, found.num_unparsable, found.num_unparsable_swapped) == (8, 0, 3)
    assert (found.num_items, found.num_undecided) == (1, 0)


def test_an_item_without_a_verdict_in_one_order_is_undecided_and_not_a_tie():
    rows = [row("p", ([A] * 4, [NONE] * 4), ([A] * 4, [B] * 4)), row("q", ([NONE] * 4, [NONE] * 4))]
    found = side_by_side(rows, num_resamples=10)
    assert (found.num_prompts, found.num_items, found.num_undecided) == (1, 1, 2)
    assert (found.num_unparsable, found.num_unparsable_swapped) == (4, 8)
    assert found.distance.win == 1.0
    with pytest.raises(DataError, match="None of the judge's 8 answers holds a verdict"):
        side_by_side(rows[1:])


def test_prompts_count_the_same_however_many_items_they_have():
    many = row("p", *[([A] * 4, [B] * 4)] * 3)
    one = row("q", ([B] * 4, [A] * 4))
    found = side_by_side([many, one], num_resamples=2000)
    assert found.distance.win == found.distance.loss == 0.5
    assert found.distance.low == 0.0 and found.distance.high == 1.0
    assert found == side_by_side([many, one], num_resamples=2000)


@given(st.lists(st.sampled_from([A, B, SAME, NONE]), min_size=8, max_size=8))
def test_swapping_the_two_sides_turns_the_score_around(said):
    plain, swapped = said[:4], said[4:]
    if all(np.isnan(plain)) or all(np.isnan(swapped)):
        return
    ours = side_by_side([row("p", (plain, swapped))], num_resamples=2)
    theirs = side_by_side([row("p", (swapped, plain))], num_resamples=2)
    assert ours.score == pytest.approx(1 - theirs.score)
    assert ours.scaled.win == theirs.scaled.loss and ours.distance.tie == theirs.distance.tie
    assert ours.first == pytest.approx(theirs.first)


def test_order_means_are_nan_where_nothing_was_said():
    found = order_means(np.array([[1.0, np.nan, 0.0, 1.0]]), np.array([False, False, True, True]))
    assert found.tolist() == [[1.0, 0.5]]
    assert np.isnan(order_means(np.array([[np.nan, 1.0]]), np.array([False, True]))[0, 0])
