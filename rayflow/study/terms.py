"""What the names of a study's rows mean: those of the RSO paper (arXiv:2309.06657)."""

from __future__ import annotations

import re
from collections.abc import Iterable

TERMS = (
    (
        "direct",
        r"\bdirect\b",
        "pairs of the annotator behind the preferences, with its labels; no proxy judges them",
    ),
    (
        "sft-sample-rank",
        r"\bsft-sample-rank\b",
        "a few samples of the SFT policy as they come, paired by the proxy",
    ),
    (
        "rso-sample-rank",
        r"\brso-sample-rank\b",
        "what rejection sampling accepts of many samples, paired by the proxy",
    ),
    (
        "sft-8, sft-64",
        r"\bsft-\d",
        "that many samples of the SFT policy, without selection, paired by the proxy",
    ),
    ("rso-8", r"\brso-\d", "that many responses accepted by rejection sampling, paired by the proxy"),
    ("first-round", r"\bfirst-round\b", "every response is in one pair"),
    (
        "tournament",
        r"\btournament\b",
        "the winners of pairs play on against each other, which makes more pairs",
    ),
)
"""Each name as it is shown, what finds it in a row's title, and what it means."""


def terms(titles: Iterable[str]) -> list[tuple[str, str]]:
    """(name, meaning) of those that stand in a title."""
    text = "\n".join(titles)
    return [(name, meaning) for name, pattern, meaning in TERMS if re.search(pattern, text)]
