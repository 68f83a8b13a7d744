"""The prompts that a refresh must compute, as a file that its run reads back exactly as they were.

Row in: what `line` wrote. Row out: `Example` without responses.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from rayflow.core.given_rows import Example
from rayflow.core.ids import prompt_id
from rayflow.core.options import KindOptions
from rayflow.core.rows import Prompt


def line(prompt: Prompt) -> str:
    """A prompt as one line of JSON."""
    row = {"prompt": prompt.prompt, "messages": list(prompt.messages), "target": prompt.target}
    return json.dumps(row, ensure_ascii=False) + "\n"


def read_back(path: Path) -> Iterator[Prompt]:
    """The prompts of a file of such lines."""
    layout = Todo(Todo.Config())
    with open(path, encoding="utf-8") as lines:
        yield from (layout.example(json.loads(each)) for each in lines)


class Todo:
    """`prompt` or `messages`, and `target`: nothing is guessed, since the prompts were read once already."""

    class Config(KindOptions):
        """Nothing to set."""

        kind: str = "rayflow.refresh.todo:Todo"

    wants = "prompt, messages and target, as a refresh writes them"

    def __init__(self, options: Config) -> None:
        self.options = options

    @staticmethod
    def fits(row: dict[str, Any]) -> bool:
        """Only where it is named."""
        return False

    def example(self, row: dict[str, Any]) -> Example:
        """The prompt (see `sources.base.Layout`)."""
        messages = tuple(row["messages"])
        return Example(
            prompt_id=prompt_id(row["prompt"], messages),
            prompt=row["prompt"],
            messages=messages,
            target=row["target"],
            responses=(),
            pairs=(),
            rewards=np.empty(0),
        )
