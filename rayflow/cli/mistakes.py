"""What the system says of a path that cannot be used, as a sentence."""

from __future__ import annotations

import errno
from pathlib import Path

from rayflow.core.files import FULL, storage_error


def sentence_of(error: OSError) -> str | None:
    """The sentence for an error that is about a path; None for any other, which is ours to mend.

    Args:
        error: as the system raised it.
    """
    if error.errno in FULL:
        return str(storage_error(error, Path(_path(error) or ".")))
    path = _path(error)
    if path is None:
        return None
    if isinstance(error, FileExistsError | NotADirectoryError):
        return _in_the_way(Path(path))
    if isinstance(error, IsADirectoryError):
        return f"{path} is a folder, and a file is needed there. Move it away, or give another path."
    if isinstance(error, FileNotFoundError):
        return f"{path} does not exist."
    if isinstance(error, PermissionError) or error.errno == errno.EROFS:
        return f"{path} cannot be read or written ({error.strerror}). Change its permissions, or give another path."
    return None


def _path(error: OSError) -> str | None:
    """The path that a person knows: where a file was to be put, not the name that it had until then."""
    name = error.filename if error.filename2 is None else error.filename2
    return name.decode(errors="replace") if isinstance(name, bytes) else name if name else None


def _in_the_way(path: Path) -> str:
    """Which part of a path is a file and would have to be a folder."""
    for part in (path, *path.parents):
        if part.is_file():
            return f"{part} is a file, and a folder is needed there. Move it away, or give another path."
    return f"{path} exists already. Move it away, or give another path."
