"""What a judge's words are taken for."""

from __future__ import annotations

import pytest

from rayflow.judges.verdict import parse_verdict

A, SAME, B = 1.0, 0.5, 0.0


@pytest.mark.parametrize(
    ("answer", "verdict"),
    [
        ("Response B is one sentence.\nVerdict: B", B),
        ("**Verdict:** (A).", A),
        ("Verdict: Response A is better", A),
        ("Verdict: [[B]]", B),
        ("The verdict is A", A),
        ("verdict: same", SAME),
        ("Verdict: a tie", SAME),
        ("Verdict: about the same", SAME),
        ("Verdict: A. B is too long", A),
        ("Verdict: A\n\nExample 5\nVerdict: B", A),  # a base model goes on
        ("A", A),
        (" (B). ", B),
        ("Same.", SAME),
        ("Verdict: A is better than B", A),
        ("Verdict: A wins over B", A),
        ("Verdict: A, though B is shorter", A),
        ("Verdict: A because B repeats itself", A),
        ("Verdict: A slightly", A),
        ("Verdict: Response A clearly, as B repeats itself", A),
        ("Verdict: A The second one rambles.", A),
        ("Verdict: Neither A nor B is better", SAME),
        ("Verdict: Both A and B are good", SAME),
        ("Verdict:\nB", B),
        ("**Verdict:**\n\nA", A),
        ("## Verdict\n**Response B**\n\nB says more.", B),
        ("Verdict:\n\nSame.\n", SAME),
        ("Verdict: Response A and Response B are equally good", SAME),
        ("Verdict: Response A and Response B are the same", SAME),
        ("Verdict: A and B are tied.", SAME),
        ("Verdict: **A** & **B** are equal", SAME),
        ("Verdict: A = B", SAME),
        ("Verdict: A > B", A),
    ],
)
def test_a_verdict_is_read(answer, verdict):
    assert parse_verdict(answer) == verdict


@pytest.mark.parametrize(
    "answer",
    [
        "",
        "I like A",
        "a",
        "Verdict:",
        "Verdict: I cannot say",
        "Verdict: A, B or same",  # the question, repeated
        'Verdict: "A", "B" or "same"',
        "Verdict: A or B",
        "Verdict: A/B",
        "Both have merits. A is longer, B is",  # cut before the verdict
        "Verdict: Apples",
        "Verdict: A slight preference for Response B",  # an article
        "Verdict: A clear win for B",
        "Verdict: A Clear Win for B",
        "Verdict: A close call, B",
        "Verdict: A slightly better text is B",
        "Verdict: A plus for the second one",
        "Verdict: A slight preference for Response B\n\nExample 5\nVerdict: A",
        "Verdict: A is worse than B",
        "Verdict: Both are good, but A is better",
        "Verdict: Neither is perfect, but B is more helpful",
        "Verdict: Both are fine; B is clearly better",
        "Verdict: Equally correct, with a slight edge to A",
        "Verdict: A and B are not equally good",
        "Verdict: A and Response B are equally good, but B is shorter",
        "Verdict: Response A and Response B differ",
        "Verdict: A & B",
        "Verdict: A < B",
        "Verdict: B < A",
        "Verdict:\nA\nB\nsame",  # the question, line by line
        "Verdict:\nA tale of two answers",
        "Verdict:\nB is what I looked at first",
    ],
)
def test_what_holds_no_verdict_is_not_guessed(answer):
    assert parse_verdict(answer) is None


def test_a_template_that_ends_with_the_question_is_answered_at_once():
    assert [parse_verdict(t, at_once=True) for t in (" A\nmore", "B is nicer", "Verdict: B")] == [A, B, B]
    assert parse_verdict("Hard to say", at_once=True) is None
    assert parse_verdict(" A clear win for B", at_once=True) is None
    assert parse_verdict("\nB", at_once=True) == B
    assert parse_verdict("A is nicer") is None
