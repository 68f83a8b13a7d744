"""An artifact whose rows later stages have replaced, read as if they were its own."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

import pyarrow as pa

from rayflow.core.schema import amend
from rayflow.pipeline.artifact import Artifact
from rayflow.pipeline.shards import Shards


class Amended(Artifact):
    """A stage's folder, read with the rows of the stages that amend it. It is written and committed alone.

    Args:
        folder: of the stage.
        by: the stages whose rows take the place of this one's, in order; each holds some of its prompts.
    """

    def __init__(self, folder: Path, by: tuple[Artifact, ...]) -> None:
        super().__init__(folder)
        self.shards = AmendedShards(self.shards.folder, tuple(artifact.shards for artifact in by))


class AmendedShards(Shards):
    """The shards of an `Amended`."""

    def __init__(self, folder: Path, by: tuple[Shards, ...]) -> None:
        super().__init__(folder)
        self._by = by

    def read(self, index: int, columns: Collection[str] | None = None) -> pa.Table:
        """See `Shards.read`; `prompt_id` must be among the columns."""
        table = super().read(index, columns)
        for later in self._by:
            table = amend(table, later.read(index, columns))
        return table


def as_written(artifact: Artifact) -> Artifact:
    """The same folder with its rows as the stage itself wrote them."""
    return Artifact(artifact.folder)
