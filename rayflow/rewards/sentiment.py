"""The demonstration's reward: how positive a response sounds, without a model.

Use it as `reward: {kind: rule, function: rayflow.rewards.sentiment:compound}`.
"""

from __future__ import annotations

from functools import cache
from importlib.util import find_spec
from typing import Any

from rayflow.errors import MissingPackageError

if find_spec("vaderSentiment") is None:
    # Now, when the run is checked, rather than at the first score, after hours of sampling.
    raise MissingPackageError.of("vaderSentiment", "The sentiment reward", "demo")


def compound(prompt: str, response: str) -> float:
    """VADER's compound sentiment of the response, from -1 (negative) to 1 (positive); 0 for an empty one.

    Args:
        prompt: not looked at.
        response: the text to judge.

    Source: Hutto and Gilbert, "VADER: A Parsimonious Rule-based Model for Sentiment Analysis of Social Media
    Text", ICWSM 2014.
    """
    return float(_analyzer().polarity_scores(response)["compound"])


@cache
def _analyzer() -> Any:
    """The analyzer, made once per process: it reads its lexicon of 7,500 words from disk."""
    from vaderSentiment.vaderSentiment import SentimentIntensityAnalyzer

    return SentimentIntensityAnalyzer()
