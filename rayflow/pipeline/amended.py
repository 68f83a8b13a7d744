"""An artifact whose rows later stages have replaced, read as if they were its own."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

import pyarrow as pa

from rayflow.core.schema import amend
from rayflow.pipeline.artifact import Artifact


class Amended(Artifact):
    """A stage's folder, read with the rows of the stages that amend it. It is written and committed alone.

    Args:
        folder: of the stage.
        by: the stages whose rows take the place of this one's, in order; each holds some of its prompts.
    """

    def __init__(self, folder: Path, by: tuple[Artifact, ...]) -> None:
        super().__init__(folder)
        self.by = by

    def read_shard(self, index: int, columns: Collection[str] | None = None) -> pa.Table:
        """See `Artifact.read_shard`; `prompt_id` must be among the columns."""
        table = super().read_shard(index, columns)
        for later in self.by:
            table = amend(table, later.read_shard(index, columns))
        return table


def as_written(artifact: Artifact) -> Artifact:
    """The same folder with its rows as the stage itself wrote them."""
    return Artifact(artifact.folder)
