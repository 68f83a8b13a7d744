"""SHA-256 of large files, read once: the cache knows them by path, size and time of their last change."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import tempfile
from pathlib import Path
from types import TracebackType
from typing import Any


class FileDigests:
    """Digests of files; a context manager, which keeps what was read for the next time.

    Args:
        remembered: a file whose size and time are those of an earlier reading is not read again, which finds an
            exchanged file in no time, but no bit that flipped on the disk.
    """

    def __init__(self, remembered: bool = True) -> None:
        self._known = _load() if remembered else {}
        self._fresh: dict[str, list[Any]] = {}

    def __enter__(self) -> FileDigests:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._fresh:
            _store(self._fresh)

    def of(self, path: Path) -> str:
        """64 hexadecimal digits: SHA-256 of a file's content."""
        real = path.resolve()
        stat = real.stat()
        entry = self._known.get(str(real))
        if entry is not None and entry[:2] == [stat.st_size, stat.st_mtime_ns]:
            return entry[2]
        with real.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        self._fresh[str(real)] = [stat.st_size, stat.st_mtime_ns, digest]
        return digest


def _cache() -> Path:
    return Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "rayflow"


def _load() -> dict[str, list[Any]]:
    """The cache {real path: [size, mtime_ns, sha256]}; empty where it is missing or unreadable."""
    try:
        cached = json.loads((_cache() / "digests.json").read_text())
    except (OSError, ValueError):
        return {}
    return cached if isinstance(cached, dict) else {}


def _store(fresh: dict[str, list[Any]]) -> None:
    """Merge `fresh` into the cache by rename. It only saves time, so a read-only home is not an error."""
    folder = _cache()
    with contextlib.suppress(OSError):
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile("w", dir=folder, prefix="digests.", delete=False) as file:
            json.dump(_load() | fresh, file)
        os.replace(file.name, folder / "digests.json")
