"""Checkpoints in Ray Train's storage, which all machines see: each worker's files merged into one folder."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from rayflow.training.checkpoints import is_intact, write_checksums

if TYPE_CHECKING:
    from ray.train import Checkpoint


class RayStore:
    """A `training.checkpoints.CheckpointStore` of the worker that it is made in."""

    def save(self, step: int, write: Callable[[Path], None]) -> None:
        """See `training.checkpoints.CheckpointStore.save`; waits until every worker has uploaded."""
        import ray.train

        with tempfile.TemporaryDirectory(prefix="rayflow-checkpoint-") as folder:
            write(Path(folder))
            write_checksums(Path(folder), _checksums(ray.train.get_context().get_world_rank()))
            ray.train.report({"step": step}, checkpoint=ray.train.Checkpoint.from_directory(folder))

    @contextlib.contextmanager
    def newest(self) -> Iterator[Path | None]:
        """See `training.checkpoints.CheckpointStore.newest`; the first worker reads all files, the others follow."""
        import ray.train
        from ray.train.collective import broadcast_from_rank_zero

        saved = [each.checkpoint for each in ray.train.get_all_reported_checkpoints()]
        first = ray.train.get_context().get_world_rank() == 0
        place = broadcast_from_rank_zero(_newest_intact(saved) if first else None)
        if place is None:
            yield None
            return
        with saved[place].as_directory() as folder:
            yield Path(folder)


def _checksums(rank: int) -> str:
    """Every worker's files have a list of their own: they are merged into one folder."""
    return f"checksums-{rank:05d}.json"


def _newest_intact(saved: Sequence[Checkpoint]) -> int | None:
    """The place of the newest checkpoint that is what was saved, of those that are kept, the oldest first."""
    for place, checkpoint in reversed(list(enumerate(saved))):
        with checkpoint.as_directory() as folder:
            if is_intact(Path(folder), checkpoint.path):
                return place
    return None
