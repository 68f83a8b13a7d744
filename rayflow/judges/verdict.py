"""A judge's words to a verdict: A, B, the same, or none that can be told."""

from __future__ import annotations

import re

FIRST, SAME, SECOND = 1.0, 0.5, 0.0
"""How much of a win the verdict is for the response that was shown first."""

_SAME = r"same|tie|tied|equal|equally|neither|both|draw"
# "Verdict: A", "**Verdict:** (B).", "Verdict: Response A is better", "Verdict: [[A]]"; letters are capitals, for
# "a tie" is none. "A or B", "A, B or same" repeat the question.
_VERDICT = re.compile(
    rf"\bverdict\b[^\w\n]*(?:is\b[^\w\n]*)?(?:the\s+)?"
    rf"(?:(?P<same>(?:a\s+|it'?s\s+a\s+|about\s+the\s+|roughly\s+the\s+)?(?:{_SAME})\b)"
    rf"|(?:(?:response|summary|answer|assistant|reply|option)\s*[^\w\n]*)?(?-i:(?P<letter>[AB]))\b"
    rf"(?![)\]*\"' \t]*(?:[,/|]|or\b|and\b|vs\b)[ \t]*[(\[*\"']*(?-i:[AB]|same)\b))",
    re.IGNORECASE,
)
_ALONE = re.compile(rf"\W*(?:(?P<same>{_SAME})|(?-i:(?P<letter>[AB])))\W*", re.IGNORECASE)


def parse_verdict(answer: str, at_once: bool = False) -> float | None:
    """The verdict in an answer.

    The first one counts: a base model that has given it may go on and make up another example. An answer that
    is nothing but a verdict needs no "Verdict:" before it.

    Args:
        answer: what the judge wrote.
        at_once: the template ended with "Verdict:", so the answer begins with what belongs behind it.

    Returns:
        FIRST, SAME or SECOND; None where no verdict can be told.
    """
    found = _ALONE.fullmatch(answer) or _VERDICT.search(f"Verdict: {answer.lstrip()}" if at_once else answer)
    if found is None:
        return None
    if found["same"]:
        return SAME
    return FIRST if found["letter"] == "A" else SECOND
