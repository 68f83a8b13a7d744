"""Where checkpoints go: folders that appear complete or not at all.

The loop asks a store to save and to give back the newest checkpoint; it does not know whether that is a
folder on this machine (`FolderStore`) or a cluster's storage.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import re
import shutil
import warnings
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Protocol

from rayflow.core.files import FULL, storage_error
from rayflow.core.model_folder import CHECKSUMS
from rayflow.errors import ArtifactError

_ROOM = 1 << 20
"""Bytes. A file that failed to be written, on a disk with less room than this, failed for that."""
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
        """The newest complete checkpoint as a folder of this machine, or None if there is none."""


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
        """See `CheckpointStore.newest`; one that is damaged is passed over, with a warning."""
        for folder in reversed(self._complete()):
            if not (wrong := wrong_files(folder)):
                yield folder
                return
            warnings.warn(
                f"Checkpoint {folder} is damaged ({', '.join(wrong)}); going on from an earlier one.",
                stacklevel=3,
            )
        yield None

    def _complete(self) -> list[Path]:
        if not self.folder.is_dir():
            return []
        return sorted(path for path in self.folder.iterdir() if _STEP.fullmatch(path.name))


@contextmanager
def committed_folder(folder: Path) -> Iterator[Path]:
    """A temporary folder beside `folder` that takes its place when the block ends without an error."""
    partial = folder.with_name(folder.name + ".partial")
    shutil.rmtree(partial, ignore_errors=True)
    try:
        partial.mkdir(parents=True)
        yield partial
        if folder.exists():
            shutil.rmtree(folder)
        os.replace(partial, folder)
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
    digests = {path.relative_to(folder).as_posix(): _sha256(path) for path in _files(folder)}
    (folder / name).write_text(json.dumps(digests, indent=2) + "\n")


def wrong_files(folder: Path, name: str = CHECKSUMS) -> list[str]:
    """Files that are not what `write_checksums` saw, or gone; none where it wrote nothing."""
    try:
        digests = json.loads((folder / name).read_text())
    except FileNotFoundError:
        return []
    except (OSError, ValueError):
        return [name]
    return [f for f, digest in digests.items() if not (folder / f).is_file() or _sha256(folder / f) != digest]


def _files(folder: Path) -> list[Path]:
    return sorted(p for p in folder.rglob("*") if p.is_file() and not p.name.startswith("checksums"))


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
