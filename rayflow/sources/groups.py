"""A prompt with its whole group: responses, the pairs among them, and their scores. Row out: `Example`.

What `rayflow table --export` writes with `--format groups`: one row is one prompt, however many pairs it has, so that
training reads the prompt once.
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np

from rayflow.core.given_rows import Example
from rayflow.core.options import KindOptions
from rayflow.sources.base import EMPTY_RESPONSE, WRONG_TYPE, RowError
from rayflow.sources.fields import answer, context, finish_reasons_of, first_of, group, has, score, target_of


class Groups:
    """`prompt` or `messages`, `responses` [n], `pairs` [p] of (chosen, rejected); optionally `scores` [n], `target`.

    `finish_reasons` [n] ("stop", "length") may tell which responses a sampler has cut: they get no EOS.
    """

    class Config(KindOptions):
        """Nothing to set."""

        kind: str = "groups"

    wants = "prompt or messages, responses and pairs (optional: scores, target, finish_reasons)"

    def __init__(self, options: Config) -> None:
        self.options = options

    @staticmethod
    def fits(row: dict[str, Any]) -> bool:
        """A prompt of either form beside responses and pairs."""
        return has(row, "responses", "pairs") and (has(row, "prompt") or has(row, "messages"))

    def example(self, row: dict[str, Any]) -> Example:
        """The group with its pairs (see `sources.base.Layout`)."""
        key, given = first_of(row, "messages", "prompt")
        responses = first_of(row, "responses")[1]
        if not isinstance(responses, list | tuple) or not responses:
            raise RowError(EMPTY_RESPONSE, "'responses' must be a list with at least one text")
        texts = tuple(answer(value, f"responses[{i}]") for i, value in enumerate(responses))
        scores = [math.nan] * len(texts)
        if has(row, "scores"):
            if not isinstance(row["scores"], list | tuple) or len(row["scores"]) != len(texts):
                raise RowError(WRONG_TYPE, f"'scores' must be a list of {len(texts)} numbers")
            scores = [score(value, f"scores[{i}]") for i, value in enumerate(row["scores"])]
        ended = finish_reasons_of(row, len(texts))
        made = group(context(given, key), texts, scores, target=target_of(row), finish_reasons=ended)
        return replace(made, pairs=_pairs(first_of(row, "pairs")[1], len(texts)))


def _pairs(value: Any, num_responses: int) -> tuple[np.ndarray, ...]:
    """Checked pairs [2] int32: two different responses each."""
    places = range(num_responses)
    for pair in value if isinstance(value, list | tuple) else (None,):
        fits = isinstance(pair, list | tuple) and len(pair) == 2
        if not fits or any(type(i) is not int or i not in places for i in pair) or pair[0] == pair[1]:
            raise RowError(
                WRONG_TYPE, f"'pairs' must hold [chosen, rejected] of {num_responses} responses, not {pair!r}"
            )
    return tuple(np.array(pair, dtype=np.int32) for pair in value)
