"""The layout of UltraFeedback binarized: a text `prompt`, and whole conversations. Row out: `Example`.

`chosen` and `rejected` are lists of messages that end with the assistant's turn; the turns before it are the
prompt, the same in both. Where the lists hold only the answer, `prompt` is the user's turn.

Source: UltraFeedback, arXiv:2310.01377; binarized as for Zephyr, arXiv:2310.16944.
"""

from __future__ import annotations

from typing import Any

from rayflow.core.given_rows import Example
from rayflow.core.options import KindOptions
from rayflow.sources.base import WRONG_TYPE, RowError
from rayflow.sources.fields import answer, context, first_of, turns
from rayflow.sources.pairs import preference


class UltraFeedback:
    """`prompt`, `chosen` and `rejected` messages; optional are `target`, scores and endings, as in `trl`."""

    class Config(KindOptions):
        """Nothing to set."""

        kind: str = "ultrafeedback"

    wants = (
        "a text prompt, chosen and rejected as messages (optional: target, score_chosen, score_rejected, "
        "finish_reason_chosen, finish_reason_rejected)"
    )

    def __init__(self, options: Config) -> None:
        self.options = options

    @staticmethod
    def fits(row: dict[str, Any]) -> bool:
        """A text prompt beside two conversations: what tells it from TRL's format."""
        lists = all(isinstance(row.get(key), list | tuple) for key in ("chosen", "rejected"))
        return lists and isinstance(row.get("prompt"), str)

    def example(self, row: dict[str, Any]) -> Example:
        """The labelled pair (see `sources.base.Layout`)."""
        if isinstance(row.get("chosen"), str) and isinstance(row.get("rejected"), str):
            raise RowError(
                WRONG_TYPE, "'chosen' and 'rejected' must be lists of messages, are text: set layout: trl"
            )
        chosen, rejected = (turns(first_of(row, key)[1], key) for key in ("chosen", "rejected"))
        given = chosen[:-1]
        if given != rejected[:-1]:
            raise RowError(WRONG_TYPE, "the turns before the answers of 'chosen' and 'rejected' differ")
        if not given:
            _, prompt = first_of(row, "prompt")
            given = context([{"role": "user", "content": prompt}], "prompt")
        return preference(given, answer(chosen[-1:], "chosen"), answer(rejected[-1:], "rejected"), row)
