"""Wall time of work that several calls did: what one of them took is known also where it was killed."""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from rayflow.core.beats import every
from rayflow.core.files import read_json
from rayflow.errors import ArtifactError

BEAT_S = 5.0
"""How much of a killed call may be missing."""


@contextlib.contextmanager
def stopwatch(path: Path, beat_s: float = BEAT_S) -> Iterator[Callable[[], float]]:
    """Count the block's seconds onto those of the calls before it, which `path` tells.

    Args:
        path: a small file that keeps the sum; nothing is written as long as its folder is not there.
        beat_s: how often it is written while the block runs.

    Returns:
        What tells the seconds of all calls until now.
    """
    earlier, begin = _earlier(path), time.monotonic()

    def spent() -> float:
        return earlier + time.monotonic() - begin

    with every(beat_s, lambda: _note(path, spent()), "stopwatch", at_end=True):
        yield spent


def _earlier(path: Path) -> float:
    try:
        return float(read_json(path)["seconds"])
    except (ArtifactError, KeyError, TypeError, ValueError):
        return 0.0  # no call before this one, or a file that nobody but us should have touched


def _note(path: Path, seconds: float) -> None:
    partial = path.with_name(f".{path.name}.part")
    with contextlib.suppress(OSError):  # a full disk must not end work that only says how long it has taken
        partial.write_text(json.dumps({"seconds": seconds}), encoding="utf-8")
        partial.replace(path)
