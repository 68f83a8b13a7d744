"""TRL's preference format: `chosen` and `rejected`, with the prompt explicit or implicit. Row out: `Example`.

String form: texts, the responses are continuations of the prompt. Conversational form: lists of messages.
Without a `prompt`, or `messages` as in other layouts, it is what chosen and rejected begin with in common, found
as TRL finds it: turn by turn, or character by character with a space before the difference given back to the
responses. By characters the cut can fall inside a word ("bl|ue", "bl|ack"): give string data an explicit prompt
where you can. Where one text is the beginning of the other the cut is unknown, and the row is refused.

Source: the dataset formats of TRL's documentation, preference type.
"""

from __future__ import annotations

from itertools import takewhile
from os.path import commonprefix
from typing import Any

from rayflow.core.given_rows import Example
from rayflow.core.options import KindOptions
from rayflow.core.rows import Message
from rayflow.sources.base import EMPTY_PROMPT, IDENTICAL, WRONG_TYPE, RowError
from rayflow.sources.fields import answer, context, first_of, has, text, turns
from rayflow.sources.pairs import preference


class Trl:
    """`chosen` and `rejected`, optionally `prompt` or `messages`, `target`, `score_chosen`, `score_rejected`.

    `finish_reason_chosen` and `finish_reason_rejected` ("stop", "length") may tell which of the two a sampler has cut:
    it gets no EOS.
    """

    class Config(KindOptions):
        """Nothing to set."""

        kind: str = "trl"

    wants = (
        "chosen and rejected (optional: prompt or messages, target, score_chosen, score_rejected, "
        "finish_reason_chosen, finish_reason_rejected)"
    )

    def __init__(self, options: Config) -> None:
        self.options = options

    @staticmethod
    def fits(row: dict[str, Any]) -> bool:
        """A chosen and a rejected response."""
        return has(row, "chosen", "rejected")

    def example(self, row: dict[str, Any]) -> Example:
        """The labelled pair (see `sources.base.Layout`)."""
        (_, chosen), (_, rejected) = first_of(row, "chosen"), first_of(row, "rejected")
        if isinstance(chosen, str) != isinstance(rejected, str):
            raise RowError(WRONG_TYPE, "one of 'chosen' and 'rejected' is text, the other is not")
        if isinstance(chosen, str):
            return _plain(row, text(chosen, "chosen"), text(rejected, "rejected"))
        return _chat(row, turns(chosen, "chosen"), turns(rejected, "rejected"))


def _plain(row: dict[str, Any], chosen: str, rejected: str) -> Example:
    for key in ("prompt", "messages"):
        if has(row, key):
            return preference(context(row[key], key), chosen, rejected, row)
    shared = len(commonprefix([chosen, rejected]))
    if shared == min(len(chosen), len(rejected)):
        reason = (
            "chosen and rejected are the same" if chosen == rejected else "one begins with all of the other"
        )
        raise RowError(IDENTICAL, f"{reason}, and there is no 'prompt' that says where the responses begin")
    shared -= chosen[:shared].endswith(" ")
    if not chosen[:shared].strip():
        raise RowError(EMPTY_PROMPT, "no 'prompt', and chosen and rejected do not begin alike")
    return preference(chosen[:shared], chosen[shared:], rejected[shared:], row)


def _chat(row: dict[str, Any], chosen: tuple[Message, ...], rejected: tuple[Message, ...]) -> Example:
    if has(row, "prompt"):
        if isinstance(row["prompt"], str):
            raise RowError(
                WRONG_TYPE, "'prompt' is text, but the responses are messages: see layout 'ultrafeedback'"
            )
        given = context(row["prompt"], "prompt")
    else:
        alike = takewhile(lambda pair: pair[0] == pair[1], zip(chosen, rejected, strict=False))
        given = tuple(turn for turn, _ in alike)
        chosen, rejected = chosen[len(given) :], rejected[len(given) :]
        if given and not chosen and not rejected:
            raise RowError(IDENTICAL, "chosen and rejected are the same")
    if not given and has(row, "messages"):
        given = turns(row["messages"], "messages")
    if not given:
        raise RowError(EMPTY_PROMPT, "no 'prompt', and chosen and rejected do not begin alike")
    return preference(given, answer(chosen, "chosen"), answer(rejected, "rejected"), row)
