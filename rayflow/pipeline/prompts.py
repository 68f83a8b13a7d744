"""First stage: rows of the user's file into shards. Row out: `Prompt`, or `Example` with the given responses.

How files are read and rows understood is in `rayflow.sources`.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from rayflow.config import PromptSource
from rayflow.core.rows import Failure, Prompt
from rayflow.core.schema import to_table
from rayflow.errors import DataError
from rayflow.pipeline.artifact import Artifact
from rayflow.pipeline.stage import StageContext
from rayflow.sources.files import source_digest
from rayflow.sources.read import read


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
        return {
            "config": self.source.model_dump(mode="json", exclude={"path"}),
            "content": source_digest(self.source),
            "rows": self.writes.__name__,
        }

    def read(self) -> Iterator[Prompt | Failure]:
        """The rows of the source, in order; one that cannot be used is a `Failure`."""
        return read(self.source, self.writes)

    def run(self, context: StageContext) -> dict[str, Any]:
        """Write the shards; run again, it writes those that are missing.

        Raises:
            DataError: no usable row in the file.
        """
        rows: list[Prompt] = []
        failures: list[Failure] = []
        for item in self.read():
            (failures if isinstance(item, Failure) else rows).append(item)  # type: ignore[arg-type]
        if not rows:
            reasons = f" ({len(failures)} rows were refused: {failures[0].detail})" if failures else ""
            raise DataError(f"{self.source.path} holds no prompts{reasons}.")
        artifact = context.artifact
        size = self._size(artifact, len(rows))
        starts = range(0, len(rows), size)
        artifact.begin(context.identity, num_shards=len(starts))
        for index, start in enumerate(starts):
            if not artifact.has_shard(index):
                table = to_table(rows[start : start + size], self.writes)
                artifact.write_shard(index, table, failures=failures if index == 0 else ())
        return {}

    def _size(self, artifact: Artifact, num_rows: int) -> int:
        """Rows per shard: the setting, but of shards that are there already theirs, or rows would be lost."""
        done = artifact.committed_shards()
        if not done:
            artifact.set_aside()  # begun with another size, perhaps, and killed at once
            return self.shard_size
        index, last = min(done), artifact.num_shards - 1
        rows = artifact.marker(index).rows
        return rows if index < last or not last else (num_rows - rows) // last
