"""First stage: rows of the user's file into shards. Row out: `Prompt`, or `Example` with the given responses.

How files are read and rows understood is in `rayflow.sources`. Of the rows two shards are in memory at most.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from rayflow.config import PromptSource
from rayflow.core.rows import Failure, Prompt
from rayflow.core.schema import to_table
from rayflow.errors import DataError
from rayflow.pipeline.stage import StageContext
from rayflow.sources.files import source_digest
from rayflow.sources.read import read

MAX_FAILURES = 10_000
"""Refused rows that one shard's marker may hold; a file with very many of them in a row gets emptier shards."""


@dataclass
class PromptStage:
    """Stores the rows of one source.

    Attributes:
        name: the stage's name.
        source: where they come from.
        shard_size: rows per shard.
        writes: `Prompt` for prompts alone, each once; `Example` for their given responses too.
    """

    name: str
    source: PromptSource
    shard_size: int
    inputs: tuple[str, ...] = ()
    models: tuple[str, ...] = ()
    writes: type[Prompt] = Prompt

    def identity(self) -> dict[str, Any]:
        """What decides the result: the files' content, the choice of rows, and how they are read."""
        return {**source_identity(self.source), "rows": self.writes.__name__}

    def read(self) -> Iterator[Prompt | Failure]:
        """The rows of the source, in order; one that cannot be used is a `Failure`."""
        return read(self.source, self.writes)

    def run(self, context: StageContext) -> dict[str, Any]:
        """Write the shards one by one; run again, it writes those that are missing.

        Raises:
            DataError: no usable row in the file.
        """
        try:
            context.artifact.settle(self._write_shards(context))
        except DataError:
            context.artifact.set_aside()  # nothing to go on from: it takes another file, or another reading of it
            raise
        return {}

    def _write_shards(self, context: StageContext) -> int:
        """How many there are. Those of a stage that was begun keep the size that they were begun with."""
        artifact, example = context.artifact, ""
        size = self.shard_size if artifact.identity is None else artifact.shard_size or self.shard_size
        num_shards = num_rows = num_failures = 0
        for rows, failures in shards_of(self.read(), size):
            num_rows, num_failures = num_rows + len(rows), num_failures + len(failures)
            example = example or (failures[0].detail if failures else "")
            if num_rows or len(failures) >= MAX_FAILURES:
                artifact.begin(context.identity, num_shards=None, shard_size=size)
                if not artifact.shards.has(num_shards):
                    artifact.shards.write(num_shards, to_table(rows, self.writes), failures=failures)
                num_shards += 1
        if not num_rows:
            raise no_prompts(self.source, num_failures, example)
        return num_shards


def source_identity(source: PromptSource) -> dict[str, Any]:
    """What decides a source's rows: its files' content, wherever they lie, which rows, and how they are read.

    Raises:
        DataError: nothing readable is there.
    """
    return {"config": source.model_dump(mode="json", exclude={"path"}), "content": source_digest(source)}


def no_prompts(source: PromptSource, refused: int, example: str, where: str = "") -> DataError:
    """What is said of a source without a usable row.

    Args:
        source: where the rows come from.
        refused: rows that cannot be used.
        example: why the first one of them cannot.
        where: what of the source was read; all of it unless said.
    """
    reasons = f" (rows refused: {refused:,}; the first: {example})" if refused else ""
    return DataError(f"{source.path} holds no prompts{where}{reasons}.")


def shards_of(items: Iterable[Prompt | Failure], size: int) -> Iterator[tuple[list[Prompt], list[Failure]]]:
    """Rows in groups of `size`, each with the failures that were met on the way to the next one."""
    rows: list[Prompt] = []
    failures: list[Failure] = []
    for item in items:
        if len(failures) >= MAX_FAILURES or (len(rows) == size and not isinstance(item, Failure)):
            yield rows, failures
            rows, failures = [], []
        (failures if isinstance(item, Failure) else rows).append(item)  # type: ignore[arg-type]
    if rows or failures:
        yield rows, failures
