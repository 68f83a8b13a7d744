"""Preferences: the labelled pairs of one source, on one side of a split. Row out: `Example`.

The split is by prompt, never by row: a file may hold many pairs of one prompt, and a model that has seen some
of them is not tested by the others.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Protocol

from rayflow.config import PromptSource
from rayflow.core.given_rows import Example
from rayflow.core.ids import prompt_id
from rayflow.core.rows import Failure, Prompt
from rayflow.core.seeds import rng
from rayflow.errors import DataError
from rayflow.pipeline.prompts import PromptStage, source_identity
from rayflow.sources.base import OTHER_SPLIT
from rayflow.sources.read import read

NO_PAIR = "no preference pair"


def name_of(prompt: Prompt) -> str:
    """Names a prompt whatever responses stand beside it, as an `Example`'s own id does not."""
    return prompt_id(prompt.prompt, prompt.messages)


class HeldOut(Protocol):
    """Which prompts are not trained on."""

    def __contains__(self, prompt: Prompt) -> bool: ...

    def identity(self) -> dict[str, Any]:
        """What decides it, as JSON values."""


@dataclass(frozen=True)
class ByHash:
    """A share of all prompts; each is drawn by itself, so that more data moves no prompt to the other side."""

    fraction: float
    seed: int

    def __contains__(self, prompt: Prompt) -> bool:
        return bool(rng(self.seed, "held out", name_of(prompt)).random() < self.fraction)

    def identity(self) -> dict[str, Any]:
        """The share and the seed."""
        return {"fraction": self.fraction, "seed": self.seed}


@dataclass(frozen=True)
class ByFile:
    """The prompts of another source."""

    source: PromptSource

    @cached_property
    def _names(self) -> frozenset[str]:
        return frozenset(row.prompt_id for row in read(self.source, Prompt) if isinstance(row, Prompt))

    def __contains__(self, prompt: Prompt) -> bool:
        return name_of(prompt) in self._names

    def identity(self) -> dict[str, Any]:
        """The other source's rows: fewer of them leave more to train on."""
        return source_identity(self.source)


@dataclass
class PreferenceStage(PromptStage):
    """Stores the rows with labelled pairs.

    Attributes:
        held_out: the prompts of the other side; None takes all.
        keep_held_out: take the held-out side instead.
    """

    writes: type[Prompt] = Example
    held_out: HeldOut | None = None
    keep_held_out: bool = False

    def identity(self) -> dict[str, Any]:
        """The rows, and which side of which split."""
        split = None if self.held_out is None else self.held_out.identity()
        return {**super().identity(), "held_out": split, "keep_held_out": self.keep_held_out}

    def read(self) -> Iterator[Prompt | Failure]:
        """The rows of this side; of a split file, unusable rows are counted on the training side only.

        Raises:
            DataError: every prompt is on the other side.
        """
        here = elsewhere = 0
        for number, row in enumerate(super().read(), start=1):  # one item for each row of the source
            if isinstance(row, Failure):
                if not self.keep_held_out:
                    yield row
            elif self.held_out is not None and (row in self.held_out) != self.keep_held_out:
                elsewhere += 1
                if isinstance(self.held_out, ByFile):
                    yield _failure(row, OTHER_SPLIT, "its prompt is in the evaluation file")
            else:
                here += 1
                detail = (
                    f"{self.source.path}, row {number}: without a labelled pair; is the layout the right one?"
                )
                yield row if row.pairs else _failure(row, NO_PAIR, detail)
        if elsewhere and not here:
            side, change = ("held out", "raise") if self.keep_held_out else ("left to train on", "lower")
            raise DataError(
                f"None of the {elsewhere} pairs of {self.source.path} is {side}: {change} data.holdout_fraction, "
                "or give data.evaluation a file of its own."
            )


def _failure(row: Prompt, reason: str, detail: str) -> Failure:
    return Failure(prompt_id=row.prompt_id, reason=reason, detail=detail)
