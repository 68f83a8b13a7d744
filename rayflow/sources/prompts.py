"""Prompts, and supervised data: a prompt with an optional target. Row out: `Example` without responses.

`prompt` is text or chat messages, `messages` are chat messages; where a row has both, `messages` are the
whole conversation and are taken. The target is `target` (or `completion`, TRL's name for it, unless its `label` is
false), or else a final assistant turn, the usual layout of supervised chat data.
"""

from __future__ import annotations

from typing import Any

from rayflow.core.given_rows import Example
from rayflow.core.options import KindOptions
from rayflow.sources.base import EMPTY_PROMPT, RowError
from rayflow.sources.fields import answer, context, example, first_of, has


class Prompts:
    """`prompt` or `messages`, optionally `target` or `completion`."""

    class Config(KindOptions):
        """Nothing to set."""

        kind: str = "prompts"

    wants = "prompt or messages (optional: target)"

    def __init__(self, options: Config) -> None:
        self.options = options

    @staticmethod
    def fits(row: dict[str, Any]) -> bool:
        """A prompt of either form."""
        return has(row, "prompt") or has(row, "messages")

    def example(self, row: dict[str, Any]) -> Example:
        """The prompt, and its target where there is one (see `sources.base.Layout`)."""
        return parse_prompt(row)


def parse_prompt(row: dict[str, Any]) -> Example:
    """An example from `prompt` or `messages`, with the target where there is one.

    Raises:
        RowError: no prompt, an empty one, or a value of another form.
    """
    key, given = first_of(row, "messages", "prompt")
    conversation = context(given, key)
    target = None
    # TRL's unpaired preferences: one that is labelled as not desired is nothing to learn.
    undesired = row.get("label") is False
    for name in ("target",) if undesired else ("target", "completion"):
        if target is None and has(row, name):
            target = answer(row[name], name)
    if not isinstance(conversation, str) and conversation[-1]["role"] == "assistant":
        target = conversation[-1]["content"] if target is None else target
        conversation = conversation[:-1]
        if not conversation:
            raise RowError(EMPTY_PROMPT, f"'{key}' is an answer without a prompt")
    return example(conversation, target)
