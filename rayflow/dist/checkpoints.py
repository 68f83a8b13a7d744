"""Checkpoints in Ray Train's storage, which all machines see: each worker's files, moved into one folder.

They are written where they stay. Ray Train would copy them from each machine's own disk, which a large model's
optimizer state may not fit on.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import secrets
import shutil
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rayflow.core.files import read_json, sync, write_json
from rayflow.errors import ArtifactError
from rayflow.training.checkpoints import committed_folder, is_intact, write_checksums

if TYPE_CHECKING:
    from ray.train import Checkpoint

_PREFIX = "checkpoint_"
"""Ray Train's own; what the local runner writes begins otherwise, and neither goes on from the other's."""
_LIST, _EARLIER_LIST = "checkpoint_manager_snapshot.json", "earlier-checkpoints.json"
"""Ray Train's list of its checkpoints, and a copy of ours as it was before the newest one."""


class RayStore:
    """A `training.checkpoints.CheckpointStore` of the worker that it is made in.

    Args:
        folder: of the run in Ray Train's storage.
    """

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)

    def save(self, step: int, write: Callable[[Path], None]) -> None:
        """See `training.checkpoints.CheckpointStore.save`; waits until every worker has written.

        A checkpoint counts once all workers have reported it; of a try that was killed before, `newest` removes what
        is there.
        """
        import ray.train
        from ray.train import Checkpoint, CheckpointUploadMode
        from ray.train.collective import broadcast_from_rank_zero

        rank = ray.train.get_context().get_world_rank()
        if rank == 0:
            self._keep_list()
        name = f"{_PREFIX}step-{step:08d}-{secrets.token_hex(4)}"
        folder = self.folder / broadcast_from_rank_zero(name if rank == 0 else None)
        own = folder / f"worker-{rank}"
        with committed_folder(own) as partial:
            write(partial)
            write_checksums(partial, f"checksums-{rank:05d}.json")  # one list for each worker's files
        _merge(own, folder)
        ray.train.report(
            {"step": step},
            checkpoint=Checkpoint.from_directory(folder),
            checkpoint_upload_mode=CheckpointUploadMode.NO_UPLOAD,
        )

    @contextlib.contextmanager
    def newest(self) -> Iterator[Path | None]:
        """See `training.checkpoints.CheckpointStore.newest`; the first worker reads all files, the others follow."""
        import ray.train
        from ray.train.collective import broadcast_from_rank_zero

        saved = [each.checkpoint for each in ray.train.get_all_reported_checkpoints()]
        place = None
        if ray.train.get_context().get_world_rank() == 0:
            self._clear_strays({Path(checkpoint.path).name for checkpoint in saved})
            place = _newest_intact(saved)
        place = broadcast_from_rank_zero(place)
        if place is None:
            yield None
            return
        with saved[place].as_directory() as folder:
            yield Path(folder)

    def _keep_list(self) -> None:
        if (listed := _listed(self.folder / _LIST)) is not None:
            write_json(self.folder / _EARLIER_LIST, listed)

    def mend_list(self) -> None:
        """Before training goes on: put the earlier list in the place of one that was cut short.

        Ray Train writes its list in place, so a kill or a full disk may leave half of one, with which it cannot begin.
        The newest checkpoint is lost then; where nothing earlier is whole, training begins anew.
        """
        path = self.folder / _LIST
        if not path.exists() or _listed(path) is not None:
            return
        earlier = _listed(self.folder / _EARLIER_LIST) or {}
        named = set(re.findall(rf"{_PREFIX}step-\d+-[0-9a-f]+", json.dumps(earlier)))
        if named and all((self.folder / name).is_dir() for name in named):
            write_json(path, earlier)
        else:
            path.unlink()

    def _clear_strays(self, kept: set[str]) -> None:
        """Delete the folders of checkpoints that not all workers came to report."""
        for folder in self.folder.glob(f"{_PREFIX}*"):
            if folder.is_dir() and folder.name not in kept:
                shutil.rmtree(folder, ignore_errors=True)


def _listed(path: Path) -> dict[str, Any] | None:
    """A list of checkpoints; None where there is none that is whole."""
    with contextlib.suppress(ArtifactError):
        return read_json(path)
    return None


def _merge(own: Path, folder: Path) -> None:
    """Move a worker's files beside the others': within one file system, so that nothing is copied."""
    folders = {folder}
    for path in sorted(own.rglob("*")):
        target = folder / path.relative_to(own)
        if path.is_dir():
            target.mkdir(exist_ok=True)
            folders.add(target)
        else:
            os.replace(path, target)
    for each in folders:
        sync(each)  # the files are on the disk; their new places must be before the checkpoint is reported
    shutil.rmtree(own)


def _newest_intact(saved: Sequence[Checkpoint]) -> int | None:
    """The place of the newest checkpoint that is what was saved, of those that are kept, the oldest first."""
    for place, checkpoint in reversed(list(enumerate(saved))):
        with checkpoint.as_directory() as folder:
            if is_intact(Path(folder), checkpoint.path):
                return place
    return None
