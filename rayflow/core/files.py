"""Files that are always whole, and what is said when there is no room for them."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import os
import secrets
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from rayflow.errors import ArtifactError

FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
"""What the system says when a disk, a quota or a file's largest size is used up."""

_NO_FOLDERS = frozenset({errno.EINVAL, errno.ENOTSUP, errno.ENOSYS})
"""What file systems say that cannot do this for a folder."""


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object from a file.

    Raises:
        ArtifactError: missing or not a JSON object.
    """
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, json.JSONDecodeError, UnicodeDecodeError) as error:
        raise ArtifactError(f"{path} cannot be read ({error}).") from error
    if not isinstance(found, dict):
        raise ArtifactError(f"{path} cannot be read (it holds no JSON object).")
    return found


def write_json(path: Path, data: dict[str, Any]) -> None:
    """Write a JSON file so that readers see the old one or the whole new one.

    Raises:
        ArtifactError: it cannot be written; the old one is as it was.
    """
    with replacing(path) as pending, open(pending, "w", encoding="utf-8") as sink:
        json.dump(data, sink, ensure_ascii=False, indent=2)


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Where to write instead of `path`: it takes its place when the block has ended without an error.

    Raises:
        ArtifactError: it cannot be written; the old one is as it was.
    """
    pending = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    with writing(path), contextlib.ExitStack() as undo:
        undo.callback(pending.unlink, missing_ok=True)
        yield pending
        sync(pending)
        os.replace(pending, path)
        undo.pop_all()


def sha256_of(path: Path) -> str:
    """SHA-256 of a file's content, 64 hexadecimal digits."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def sync(path: Path) -> None:
    """Have a file's content, or a folder's list of names, on the disk before anything that follows.

    Else a machine that is cut off may keep a later commit, and lose what it commits.
    """
    opened = os.open(path, os.O_RDONLY)
    try:
        os.fsync(opened)
    except OSError as error:
        if not (path.is_dir() and error.errno in _NO_FOLDERS):
            raise
    finally:
        os.close(opened)


def sync_tree(folder: Path) -> None:
    """`sync` of a folder and of all that is in it."""
    for path in (*folder.rglob("*"), folder):
        sync(path)


@contextlib.contextmanager
def writing(path: Path) -> Iterator[None]:
    """Around what writes `path`: the system's refusal becomes a sentence.

    Raises:
        ArtifactError: no room, or no permission, or a disk that fails.
    """
    try:
        yield
    except OSError as error:
        raise storage_error(error, path) from error


def storage_error(error: OSError, path: Path) -> ArtifactError:
    """What the system said, with what to do."""
    if error.errno in FULL:
        return ArtifactError(
            f"There is no room to write {path} ({error.strerror}). Nothing half-written is kept. Make room, and "
            "run again: it goes on from what is finished."
        )
    return ArtifactError(f"{path} cannot be written ({error}). Mend that, and run again to go on.")
