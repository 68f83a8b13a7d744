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
    ],
)
def test_what_holds_no_verdict_is_not_guessed(answer):
    assert parse_verdict(answer) is None


def test_a_template_that_ends_with_the_question_is_answered_at_once():
    assert [parse_verdict(t, at_once=True) for t in (" A\nmore", "B is nicer", "Verdict: B")] == [A, B, B]
    assert parse_verdict("Hard to say", at_once=True) is None
    assert parse_verdict("A is nicer") is None
