"""A judge's words to a verdict: A, B, the same, or none that can be told."""

from __future__ import annotations

import re

FIRST, SAME, SECOND = 1.0, 0.5, 0.0
"""How much of a win the verdict is for the response that was shown first."""

_SAME = r"same|tie|tied|equal|equally|neither|both|draw"
_LABEL = r"(?:response|summary|answer|assistant|reply|option)\s*[^\w\n]*"
_NAME = rf"(?:the\s+)?(?:{_LABEL})?(?-i:[AB])\b"
# "A and Response B are equally good", "A = B".
_EQUAL = (
    rf"{_NAME}[)\]*\"' \t]*(?:(?:and\b|&)[ \t(\[*\"']*{_NAME}(?:(?!\bnot\b|n't\b)[^\n])*?"
    rf"\b(?:same|tied?|equal|equally|draw)\b|(?:=+|≈|~)[ \t]*{_NAME})"
)
# "Verdict: A", "**Verdict:** (B).", "Verdict: Response A is better", "Verdict: [[A]]"; letters are capitals, for
# "a tie" is none. "A or B", "A, B or same" repeat the question. On the next line, and not on each of several, stands
# nothing but the verdict.
_VERDICT = re.compile(
    rf"\bverdict\b[^\w\n]*(?:(?:is\b[^\w\n]*)?(?:the\s+)?"
    rf"(?:(?P<same>(?:a\s+|it'?s\s+a\s+|about\s+the\s+|roughly\s+the\s+)?(?:{_SAME})\b)"
    rf"|(?P<equal>{_EQUAL})"
    rf"|(?P<label>{_LABEL})?(?-i:(?P<letter>[AB]))\b"
    rf"(?![)\]*\"' \t]*(?:[,/|&=≈~<]+|or\b|and\b|vs\b)[ \t(\[*\"']*(?:(?-i:same)\b|{_NAME})))"
    rf"|\n\W*(?:(?P<same_below>{_SAME})|(?:{_LABEL})?(?-i:(?P<letter_below>[AB])))\b[^\w\n]*(?:\n|\Z)"
    rf"(?!\W*(?:{_SAME}|(?:{_LABEL})?(?-i:[AB]))\b[^\w\n]*(?:\n|\Z)))",
    re.IGNORECASE,
)
# What may stand behind the letter A, and not behind the article: a verb ("wins", "is"), a word that joins, an adverb
# with nothing or a comparative after it.
_BEHIND_A_NAME = re.compile(
    r"[ \t]+(?:(?!(?:plus|minus)\b)[\w']*[\w'](?<!s)(?<!ou)s"
    r"|and|at|because|but|by|can|could|did|due|for|had|in|it|on|over|so|than|then|though|although|while|with"
    r"|will|won|would|\w+ly(?=[^\w\n]*$|[.,;]|\s+(?:better|more)[^\w\n]*$))\b",
    re.IGNORECASE,
)
_IS_NOT_BETTER = re.compile(
    r"[ \t]+(?:(?:is|was)\s+(?:\w+ly\s+|much\s+|a\s+bit\s+)?(?:not|worse|less|weaker|inferior)"
    r"|isn't|wasn't|loses|lost|lacks|fails|falls)\b",
    re.IGNORECASE,
)
# "Both are good, but A is better" names a winner after all, or may.
_AFTER_ALL = re.compile(
    r"\b(?:but|however|(?:al)?though|yet|while|whereas|edge|prefer\w*|favou?r\w*|lean\w*|pick|choose)\b.*"
    r"\b(?-i:[AB])\b|(?<!\band )(?<!\bnor )(?<!\bor )\b(?-i:[AB])\s+(?:wins|(?:is|was)\s+(?:\w+ly\s+|still\s+)?"
    r"(?:the\s+)?(?:better|best|more|stronger))\b",
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
    alone = _ALONE.fullmatch(answer)
    if alone is not None:
        return _value(alone["letter"])
    text = f"Verdict: {answer.lstrip()}" if at_once else answer
    found = _VERDICT.search(text)
    if found is None:
        return None
    rest = text[found.end() :].partition("\n")[0]
    if ((found["same"] or found["equal"]) and _AFTER_ALL.search(rest)) or (
        found["letter"] and _is_no_winner(found, rest)
    ):
        return None  # and nothing further down: what follows may be an example that was made up
    return _value(found["letter"] or found["letter_below"])


def _value(letter: str | None) -> float:
    return SAME if letter is None else FIRST if letter == "A" else SECOND


def _is_no_winner(found: re.Match[str], rest: str) -> bool:
    """Whether the rest of the line makes an article of a capital A, or a loser of the response."""
    if _IS_NOT_BETTER.match(rest):
        return True
    word = re.match(r"[ \t]+([^\W\d_])", rest)
    if found["letter"] == "B" or found["label"] or word is None:
        return False
    if re.match(r"[ \t]+\w+ly\b", rest):
        return re.search(r"\bB\b", rest) is not None or _BEHIND_A_NAME.match(rest) is None
    if _BEHIND_A_NAME.match(rest):
        return False
    return word[1].islower() or re.search(r"\bB\b", rest) is not None
