"""Given: a file's responses to the prompts of a run. Row in: `Prompt`. Row out: `Given`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from rayflow.config import PromptSource
from rayflow.core.given_rows import Given
from rayflow.core.ids import prompt_id
from rayflow.core.rows import Failure, Row
from rayflow.core.schema import to_table
from rayflow.errors import DataError
from rayflow.pipeline.prompts import source_identity
from rayflow.pipeline.stage import StageContext, failure_of, read_rows
from rayflow.sources.base import OTHER_SPLIT
from rayflow.sources.read import read_answers

_Answer = tuple[str, str | None]
"""A response, and its finish reason; None where its row does not say it."""


@dataclass
class GivenStage:
    """Finds each prompt's responses by the prompt's content; several rows of one prompt are taken together.

    Attributes:
        inputs: the prompts.
        source: the file.
    """

    name: str
    inputs: tuple[str]
    source: PromptSource
    models: tuple[str, ...] = ()

    writes = Given

    def identity(self) -> dict[str, Any]:
        """The file's content and how it is read."""
        return source_identity(self.source)

    def run(self, context: StageContext) -> dict[str, Any]:
        """One shard for each of the prompts'; a prompt without a response is a failure.

        Raises:
            DataError: no prompt has one.
        """
        prompts, artifact = context.artifacts[self.inputs[0]], context.artifact
        answers, refused = self._answers()
        artifact.begin(context.identity, num_shards=prompts.num_shards)
        matched = 0
        for index in range(prompts.num_shards):
            ids = [row.prompt_id for row in read_rows([prompts], index, Row)]
            kept = [_given(each, answers[each]) for each in ids if each in answers]
            lost = [
                failure_of(each, "no response", f"{self.source.path} has none to this prompt")
                for each in ids
                if each not in answers
            ]
            matched += len(kept)
            if not artifact.shards.has(index):
                artifact.shards.write(
                    index, to_table(kept, Given), failures=[*lost, *(refused if not index else ())]
                )
        if not matched:
            raise DataError(
                f"{self.source.path} has no response to any of the prompts. Its rows must hold the same prompts, "
                "word for word, as the prompts of this evaluation."
            )
        return {}

    def _answers(self) -> tuple[dict[str, list[_Answer]], list[Failure]]:
        found: dict[str, list[_Answer]] = {}
        refused = []
        for row in read_answers(self.source):
            if isinstance(row, Failure):
                refused += [] if row.reason == OTHER_SPLIT else [row]
                continue
            given = row.responses or ((row.target,) if row.target is not None else ())
            if given:
                reasons = row.finish_reasons or (None,) * len(given)
                name = prompt_id(row.prompt, row.messages)
                found.setdefault(name, []).extend(zip(given, reasons, strict=True))
        return found, refused


def _given(name: str, answers: list[_Answer]) -> Given:
    """Where no row says how a response ended, that is not known; where one does, the others ended by themselves."""
    responses, told = zip(*answers, strict=True)
    reasons = tuple(reason or "stop" for reason in told) if any(told) else ()
    return Given(
        prompt_id=name,
        responses=responses,
        pairs=(),
        rewards=np.full(len(responses), np.nan),
        finish_reasons=reasons,
    )
