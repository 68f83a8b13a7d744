"""A prompt with any number of responses and optional scores, as ranking losses read it. Row out: `Example`.

Without `scores` the order of `responses` says nothing: the rewards are NaN, and the run's reward gives
them to a loss that reads them.

Source: the data of RRHF, arXiv:2304.05302.
"""

from __future__ import annotations

import math
from typing import Any

from rayflow.core.given_rows import Example
from rayflow.core.options import KindOptions
from rayflow.sources.base import EMPTY_RESPONSE, WRONG_TYPE, RowError
from rayflow.sources.fields import answer, context, finish_reasons_of, first_of, group, has, score, target_of


class Ranked:
    """`prompt` or `messages`, `responses` [n], optionally `scores` [n], `target`, `finish_reasons` [n]."""

    class Config(KindOptions):
        """Nothing to set."""

        kind: str = "ranked"

    wants = "prompt or messages, and responses (optional: scores, target, finish_reasons)"

    def __init__(self, options: Config) -> None:
        self.options = options

    @staticmethod
    def fits(row: dict[str, Any]) -> bool:
        """A prompt of either form beside responses."""
        return has(row, "responses") and (has(row, "prompt") or has(row, "messages"))

    def example(self, row: dict[str, Any]) -> Example:
        """The group without pairs (see `sources.base.Layout`)."""
        key, given = first_of(row, "messages", "prompt")
        responses = _list(first_of(row, "responses")[1], "responses")
        if not responses:
            raise RowError(EMPTY_RESPONSE, "'responses' is empty")
        texts = tuple(answer(value, f"responses[{i}]") for i, value in enumerate(responses))
        scores = [math.nan] * len(texts)
        if has(row, "scores"):
            given_scores = _list(row["scores"], "scores")
            if len(given_scores) != len(texts):
                raise RowError(WRONG_TYPE, f"{len(given_scores)} scores for {len(texts)} responses")
            scores = [score(value, f"scores[{i}]") for i, value in enumerate(given_scores)]
        ended = finish_reasons_of(row, len(texts))
        return group(context(given, key), texts, scores, target=target_of(row), finish_reasons=ended)


def _list(value: Any, name: str) -> list[Any]:
    if not isinstance(value, list | tuple):
        raise RowError(WRONG_TYPE, f"'{name}' must be a list, is {type(value).__name__}")
    return list(value)
