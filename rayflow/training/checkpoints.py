"""Where checkpoints go: folders that appear complete or not at all.

The loop asks a store to save and to give back the newest checkpoint; it does not know whether that is a
folder on this machine (`FolderStore`) or a cluster's storage.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Protocol

CHECKSUMS = "checksums.json"
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
        for old in self._complete()[: -self.keep]:
            shutil.rmtree(old)

    @contextmanager
    def newest(self) -> Iterator[Path | None]:
        """See `CheckpointStore.newest`."""
        complete = self._complete()
        yield complete[-1] if complete else None

    def _complete(self) -> list[Path]:
        if not self.folder.is_dir():
            return []
        return sorted(path for path in self.folder.iterdir() if _STEP.fullmatch(path.name))


@contextmanager
def committed_folder(folder: Path) -> Iterator[Path]:
    """A temporary folder beside `folder` that takes its place when the block ends without an error."""
    partial = folder.with_name(folder.name + ".partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    yield partial
    if folder.exists():
        shutil.rmtree(folder)
    os.replace(partial, folder)


def write_checksums(folder: Path) -> None:
    """Write SHA-256 of every file of `folder` to `checksums.json` in it: a flipped bit loads silently."""
    digests = {}
    for path in sorted(p for p in folder.rglob("*") if p.is_file() and p.name != CHECKSUMS):
        with path.open("rb") as file:
            digests[path.relative_to(folder).as_posix()] = hashlib.file_digest(file, "sha256").hexdigest()
    (folder / CHECKSUMS).write_text(json.dumps(digests, indent=2) + "\n")
