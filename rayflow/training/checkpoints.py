"""Where checkpoints go: folders that appear complete or not at all.

The loop asks a store to save and to give back the newest checkpoint; it does not know whether that is a
folder on this machine (`FolderStore`) or a cluster's storage.
"""

from __future__ import annotations

import errno
import json
import os
import re
import shutil
import warnings
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Protocol

from rayflow.core.files import FULL, sha256_of, storage_error, sync, sync_tree
from rayflow.core.model_folder import CHECKSUMS
from rayflow.errors import ArtifactError, StageError

_ROOM = 1 << 20
"""Bytes. A file that failed to be written, on a disk with less room than this, failed for that."""
SHAPE = "shape.json"
"""What a checkpoint's files depend on: `num_workers`, `zero_stage`, `precision`. A single process writes none."""
_LISTS = CHECKSUMS.removesuffix(".json")
"""How the names of all lists of checksums begin, the only one's and each worker's."""
_STEP = re.compile(r"step-(\d{8})")


class CheckpointStore(Protocol):
    """What the loop needs of a place for checkpoints."""

    def save(self, step: int, write: Callable[[Path], None]) -> None:
        """Keep a checkpoint. Every worker calls it at the same step.

        Args:
            step: optimizer steps done.
            write: puts this worker's files into the folder that it is given.
        """

    def newest(self) -> AbstractContextManager[Path | None]:
        """The newest checkpoint that is intact, as a folder of this machine, or None if there is none.

        One that is damaged is passed over, with a warning.
        """


class FolderStore:
    """Checkpoints of a single process in `folder`/step-00000050.

    Args:
        folder: created when the first checkpoint is saved.
        keep: how many of the newest stay.
    """

    def __init__(self, folder: str | Path, keep: int) -> None:
        self.folder = Path(folder)
        self.keep = keep

    def save(self, step: int, write: Callable[[Path], None]) -> None:
        """Write to a temporary folder, rename, then delete what is too old."""
        with committed_folder(self.folder / f"step-{step:08d}") as partial:
            write(partial)
            write_checksums(partial)
        for old in self._complete()[: -self.keep]:
            shutil.rmtree(old)

    @contextmanager
    def newest(self) -> Iterator[Path | None]:
        """See `CheckpointStore.newest`."""
        yield next((folder for folder in reversed(self._complete()) if is_intact(folder, str(folder))), None)

    def _complete(self) -> list[Path]:
        if not self.folder.is_dir():
            return []
        return sorted(path for path in self.folder.iterdir() if _STEP.fullmatch(path.name))


@contextmanager
def committed_folder(folder: Path) -> Iterator[Path]:
    """A temporary folder beside `folder` that takes its place when the block ends without an error.

    It is on the disk by then: what is committed next may name it, whatever happens to the machine.
    """
    partial = folder.with_name(folder.name + ".partial")
    shutil.rmtree(partial, ignore_errors=True)
    try:
        partial.mkdir(parents=True)
        yield partial
        sync_tree(partial)
        if folder.exists():
            shutil.rmtree(folder)
        os.replace(partial, folder)
        sync(folder.parent)
    except Exception as error:
        full = _no_room(error, folder.parent)
        shutil.rmtree(partial, ignore_errors=True)
        if full is None:
            raise
        raise full from error


def _no_room(error: Exception, folder: Path) -> ArtifactError | None:
    """The error to raise instead where the disk is full: torch and safetensors do not say so themselves."""
    if isinstance(error, OSError) and error.errno is not None:
        return storage_error(error, folder) if error.errno in FULL else None
    where = next(path for path in (folder, *folder.parents) if path.exists())
    if shutil.disk_usage(where).free >= _ROOM:
        return None
    return storage_error(OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)), folder)


def write_checksums(folder: Path, name: str = CHECKSUMS) -> None:
    """Write SHA-256 of every file of `folder` to the file `name` in it: a flipped bit loads silently."""
    digests = {path.relative_to(folder).as_posix(): sha256_of(path) for path in _files(folder)}
    (folder / name).write_text(json.dumps(digests, indent=2) + "\n")


def is_intact(folder: Path, name: str) -> bool:
    """Whether a checkpoint is what all of its workers saved; warns of one that is not, by its name for people."""
    wrong = wrong_files(folder)
    if wrong:
        warnings.warn(
            f"Checkpoint {name} is damaged ({', '.join(wrong)}); going on from an earlier one.", stacklevel=2
        )
    return not wrong


def refuse_others(folder: Path, pattern: str, runner: str) -> None:
    """Go on only from checkpoints of one's own: from none that it can read, training would begin anew unasked.

    Args:
        folder: of the checkpoints.
        pattern: the names of those that another runner leaves there.
        runner: that runner.

    Raises:
        StageError: there are some.
    """
    if any(folder.glob(pattern)):
        raise StageError(
            f"This training was begun with compute.runner={runner}, and only that can go on from its checkpoints. Set "
            "it again, or begin the training anew with --force-stage train."
        )


def wrong_files(folder: Path) -> list[str]:
    """Files of a checkpoint that are not what any of its workers saved, or gone, its lists of checksums among them."""
    digests: dict[str, str] = {}
    wrong, lists = [], sorted(folder.glob(f"{_LISTS}*.json"))
    for path in lists:
        try:
            digests |= json.loads(path.read_text())
        except (OSError, ValueError, TypeError):
            wrong.append(path.name)
    wrong += [
        f for f, digest in digests.items() if not (folder / f).is_file() or sha256_of(folder / f) != digest
    ]
    if not wrong and len(lists) < (expected := _num_workers(folder)):
        wrong.append(f"{expected - len(lists)} of {expected} lists of checksums")
    return wrong


def _num_workers(folder: Path) -> int:
    """How many workers saved a checkpoint, each with a list of checksums."""
    shape = folder / SHAPE
    return json.loads(shape.read_text())["num_workers"] if shape.exists() else 1


def _files(folder: Path) -> list[Path]:
    return sorted(p for p in folder.rglob("*") if p.is_file() and not p.name.startswith(_LISTS))
