r"""Anthropic's helpful-and-harmless pairs: two dialogues with a shared beginning. Row out: `Example`.

`chosen` and `rejected` are texts of the form "\n\nHuman: ..\n\nAssistant: ..". The prompt is everything up to and
including the last "\n\nAssistant:" that both share; what follows it is the response. A few dialogues go on
with further turns after that point: such a response is no single answer, and the row is refused.

Source: Bai et al., arXiv:2204.05862, and its data release.
"""

from __future__ import annotations

import re
from os.path import commonprefix
from typing import Any

from rayflow.core.given_rows import Example
from rayflow.core.options import KindOptions
from rayflow.core.rows import Message
from rayflow.sources.base import NO_DIALOGUE, SEVERAL_TURNS, RowError
from rayflow.sources.fields import first_of, has, text
from rayflow.sources.pairs import preference

_HUMAN, _ASSISTANT = "\n\nHuman:", "\n\nAssistant:"
_TURN = re.compile(r"\n\n(Human|Assistant):")
_ROLES = {"Human": "user", "Assistant": "assistant"}


class HelpfulHarmless:
    """`chosen` and `rejected` dialogues."""

    class Config(KindOptions):
        """`chat`: turn the dialogue into chat messages; else prompt and responses stay text as in the file."""

        kind: str = "hh"
        chat: bool = True

    wants = r'chosen and rejected as dialogues that begin with "\n\nHuman:"'

    def __init__(self, options: Config) -> None:
        self.options = options

    @staticmethod
    def fits(row: dict[str, Any]) -> bool:
        """Two dialogue texts without a prompt of their own."""
        texts = (row.get("chosen"), row.get("rejected"))
        return not has(row, "prompt") and all(isinstance(t, str) and t.startswith(_HUMAN) for t in texts)

    def example(self, row: dict[str, Any]) -> Example:
        """The labelled pair (see `sources.base.Layout`)."""
        chosen, rejected = (text(first_of(row, key)[1], key) for key in ("chosen", "rejected"))
        shared = commonprefix([chosen, rejected])
        cut = shared.rfind(_ASSISTANT)
        if not shared.startswith(_HUMAN) or cut < 0:
            detail = r'chosen and rejected share no beginning "\n\nHuman: ..\n\nAssistant:"'
            raise RowError(NO_DIALOGUE, detail)
        end = cut + len(_ASSISTANT)
        answers = chosen[end:], rejected[end:]
        for name, response in zip(("chosen", "rejected"), answers, strict=True):
            if _TURN.search(response):
                raise RowError(SEVERAL_TURNS, f"'{name}' goes on with further turns where the two part")
        if self.options.chat:
            return preference(_messages(chosen[:cut]), answers[0].strip(), answers[1].strip(), {})
        return preference(chosen[:end], *answers, {})


def _messages(dialogue: str) -> tuple[Message, ...]:
    """Alternating turns: many chat templates refuse two of one speaker in a row, so those are joined."""
    _, *parts = _TURN.split(dialogue)
    turns: list[Message] = []
    for speaker, said in zip(parts[::2], parts[1::2], strict=True):
        if turns and turns[-1]["role"] == _ROLES[speaker]:
            turns[-1]["content"] += f"\n\n{said.strip()}"
        else:
            turns.append({"role": _ROLES[speaker], "content": said.strip()})
    return tuple(turns)
