"""The demonstration's reward: how positive a response sounds, without a model.

Use it as `reward: {kind: rule, function: rayflow.rewards.sentiment:compound}`.
"""

from __future__ import annotations

from functools import cache
from typing import Any

from rayflow.errors import MissingPackageError


def compound(prompt: str, response: str) -> float:
    """VADER's compound sentiment of the response, from -1 (negative) to 1 (positive); 0 for an empty one.

    Args:
        prompt: not looked at.
        response: the text to judge.

    Raises:
        MissingPackageError: vaderSentiment is not installed.

    Source: Hutto and Gilbert, "VADER: A Parsimonious Rule-based Model for Sentiment Analysis of Social Media
    Text", ICWSM 2014.
    """
    return float(_analyzer().polarity_scores(response)["compound"])


@cache
def _analyzer() -> Any:
    """The analyzer, made once per process: it reads its lexicon of 7,500 words from disk."""
    try:
        from vaderSentiment.vaderSentiment import SentimentIntensityAnalyzer
    except ImportError as error:
        raise MissingPackageError("vaderSentiment", "The sentiment reward", "demo") from error
    return SentimentIntensityAnalyzer()
