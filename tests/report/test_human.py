"""The page of human ratings names a system only where it alone is ahead."""

from __future__ import annotations

import numpy as np
import pytest

from rayflow.evaluation.human import NO_PREFERENCE, NOT_GIVEN, HumanResult, Rating, human_result
from rayflow.report.human import cards, lead, notes


def result(num_systems: int, best: list[int]) -> HumanResult:
    """One rater, and whom he calls best on each task."""
    ratings = [Rating("ann", f"t{i}", np.full(num_systems, 3.0), winner) for i, winner in enumerate(best)]
    return human_result(("sft", "dpo", "rso")[:num_systems], ratings, num_resamples=10)


@pytest.mark.parametrize(
    ("best", "said", "card"),
    [
        ([1, 1, 0, NO_PREFERENCE], "dpo is preferred on 2 of 4 tasks (50.0%), no system on 25.0%.", "dpo"),
        (
            [0, 1, NO_PREFERENCE, NO_PREFERENCE],
            "no system is ahead, 2 are each preferred on 1 of 4 tasks (25.0%), no system on 50.0%.",
            "no system alone",
        ),
        ([NO_PREFERENCE] * 4, "no system is preferred on any of them.", "none"),
        ([NOT_GIVEN] * 4, "no system is preferred on any of them.", "none"),
    ],
)
def test_a_system_is_named_only_where_it_alone_is_ahead(best: list[int], said: str, card: str) -> None:
    found = result(3, best)
    assert lead(found) == f"1 rater on 4 tasks: {said}"
    assert cards(found)[1].title == f"Preferred by most raters: {card}"


def test_two_systems_that_tie_are_left_to_their_quality() -> None:
    found = result(2, [0, 1])
    assert lead(found) == (
        "1 rater on 2 tasks: no system is ahead, 2 are each preferred on 1 of 2 tasks (50.0%). "
        "By mean quality sft wins 50.0% (ties half, 95% interval 50.0% to 50.0%): that does not settle which is better."
    )
    assert cards(found)[1].value == "50.0%" and "for each of 2 systems" in cards(found)[1].detail
    assert (
        cards(result(2, [NO_PREFERENCE]))[1].value == "0.0%" and cards(result(2, [NOT_GIVEN]))[1].value == "–"
    )


@pytest.mark.parametrize(
    ("dpo", "said"), [(4.0, "it is better."), (2.0, "it is better."), (np.nan, "not rated")]
)
def test_of_two_systems_the_win_rate_and_its_interval_are_in_the_headline(dpo: float, said: str) -> None:
    ratings = [Rating("ann", f"t{i}", np.array([3.0, dpo]), NOT_GIVEN if i else 1) for i in range(8)]
    text = lead(human_result(("sft", "dpo"), ratings, num_resamples=10))
    assert "1 rater on 8 tasks: dpo is preferred on 1 of 1 task (100.0%)" in text and said in text
    if np.isfinite(dpo):
        better = "dpo" if dpo > 3 else "sft"
        assert f"By mean quality {better} wins 100.0% (ties half, 95% interval 100.0% to 100.0%)" in text


@pytest.mark.parametrize(
    ("quality", "title", "value", "detail"),
    [
        ([2.0, 4.0, 3.0], "Best quality: dpo", "4.00", "of 5; 4.00 – 4.00"),
        ([3.0, 4.0, 4.0], "Best quality: no system alone", "4.00", "of 5; the mean of 2 systems"),
        ([np.nan] * 3, "Best quality: none", "–", "no response was rated"),
        ([np.nan, 2.0, 1.0], "Best quality: dpo", "2.00", "of 5; 2.00 – 2.00"),
    ],
)
def test_the_best_quality_is_one_systems_only_if_no_other_has_it(
    quality: list[float], title: str, value: str, detail: str
) -> None:
    ratings = [Rating("ann", f"t{i}", np.array(quality), NO_PREFERENCE) for i in range(2)]
    card = cards(human_result(("sft", "dpo", "rso"), ratings, num_resamples=10))[0]
    assert (card.title, card.value, card.detail) == (title, value, detail)


def test_two_systems_are_settled_by_the_tasks_on_which_both_are_rated() -> None:
    """Two unanimous tasks settle nothing, however many there are with a vote alone."""

    def told(num_rated: int, num_tasks: int) -> tuple[str, str]:
        rated = [np.array([3.0, 4.0])] * num_rated + [np.array([np.nan, 4.0])] * (num_tasks - num_rated)
        ratings = [Rating("ann", f"t{i}", quality, 1) for i, quality in enumerate(rated)]
        found = human_result(("sft", "dpo"), ratings, num_resamples=10)
        return lead(found), notes(found)[-1]

    assert told(2, 40)[0].endswith("that does not settle which is better.")
    assert told(2, 40)[1].startswith(
        "With 2 tasks on which both of two systems are rated the intervals are too"
    )
    assert told(30, 40)[0].endswith("it is better.") and "too narrow" not in told(30, 40)[1]
    assert told(8, 8)[1].startswith("With 8 tasks the intervals are too narrow")
