"""The lock on a run's folder: one process works in it, and another one is told which.

On one machine `flock` decides. The kernel drops it when its owner ends, also by kill -9, so nothing stale can
be left. Some shared storages keep flock to each machine, so the owner also writes down who it is and lets a
number grow; a process that finds another machine's record watches it for a while, and takes over only where
it stands still. No clocks are compared.
"""

from __future__ import annotations

import contextlib
import fcntl
import getpass
import itertools
import json
import os
import socket
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, Any

from rayflow.core.beats import every
from rayflow.core.files import writing
from rayflow.errors import ArtifactError, LockedError

_RECORD_BYTES = 1024
BEAT_S = 5.0
"""How often a living owner says so."""
LAST_CHILDREN_S = 30.0
"""How long the children of a killed owner, which may hold its lock, are waited for."""


@contextlib.contextmanager
def folder_lock(folder: Path, beat_s: float = BEAT_S) -> Iterator[None]:
    """Hold the lock of `folder` while the block runs.

    Args:
        folder: exists already.
        beat_s: seconds between two signs of life; every process that uses the folder must have the same.

    Raises:
        LockedError: another process holds it: on which machine, its id, since when.
    """
    path = folder / ".lock"
    with writing(path):
        file, is_new = _open(path)
    with file:
        _take(file, folder)
        taken_over = not is_new and _watch_other_machine(path, folder, beat_s)
        record = {
            "machine": _machine(),
            "host": socket.gethostname(),
            "pid": os.getpid(),
            "user": _user(),
            "since": time.time(),
        }
        _write(file, record | {"beat": 0})
        if taken_over:
            _watch_another_heir(path, folder, record | {"beat": 0}, beat_s)
        numbers = itertools.count(1)

        def beat() -> None:
            _write(file, record | {"beat": next(numbers)})

        try:
            # A full disk must not end a run that is only saying that it lives.
            with every(beat_s, beat, "run-lock", forgive=(OSError,)):
                yield
        finally:
            with contextlib.suppress(OSError):
                _write(file, {"released": time.time()})


def _open(path: Path) -> tuple[IO[bytes], bool]:
    """The lock's file, and whether it is made by this call."""
    try:
        return os.fdopen(os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o666), "r+b", buffering=0), True
    except FileExistsError:
        return open(path, "r+b", buffering=0), False


def _take(file: IO[bytes], folder: Path) -> None:
    """flock, waiting only for what a killed owner has left running."""
    until = time.monotonic() + LAST_CHILDREN_S
    while True:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
        except BlockingIOError:
            owner = _owner(_read(Path(file.name)))
            if not _has_ended(owner) or time.monotonic() > until:
                raise _busy(folder, owner) from None
        except OSError as error:
            raise ArtifactError(
                f"{folder} cannot be locked ({error.strerror}). Its storage does not know file locks: put runs_dir "
                "on another one."
            ) from error
        time.sleep(0.5)


def _watch_other_machine(path: Path, folder: Path, beat_s: float) -> bool:
    """Refuse a folder whose record, another machine's, still changes.

    Returns:
        Whether the record is that of an owner elsewhere who seems to be dead.
    """
    before = _read(path)
    if "released" in _owner(before) or _owner(before).get("machine") == _machine():
        return False  # in order, or by a process of this machine that the kernel knows to be gone
    # An empty one may be another machine's that has just been made.
    time.sleep(3 * beat_s)
    now = _read(path)
    if now != before:
        raise _busy(folder, _owner(now) or _owner(before))
    return True


def _watch_another_heir(path: Path, folder: Path, ours: dict[str, Any], beat_s: float) -> None:
    """Refuse a folder that another machine has taken over in the same moment: of two, the later writer has it."""
    time.sleep(beat_s)
    if (owner := _owner(_read(path))) != ours:
        raise _busy(folder, owner)


def _write(file: IO[bytes], record: dict[str, Any]) -> None:
    """Over the one before and as long, so that nobody ever reads an empty file, on the storage and not in a cache."""
    os.pwrite(file.fileno(), json.dumps(record).encode().ljust(_RECORD_BYTES), 0)
    os.fsync(file.fileno())


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except OSError:
        return ""


def _owner(text: str) -> dict[str, Any]:
    """What a record says; nothing where it is being written just now."""
    try:
        found = json.loads(text)
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


def _has_ended(owner: dict[str, Any]) -> bool:
    if owner.get("machine") != _machine() or not isinstance(owner.get("pid"), int):
        return False
    try:
        os.kill(owner["pid"], 0)
    except ProcessLookupError:
        return True
    except PermissionError:
        return False
    return False


def _busy(folder: Path, owner: dict[str, Any]) -> LockedError:
    who = ""
    if owner:
        since = datetime.fromtimestamp(float(owner.get("since", 0)), tz=UTC)
        who = (
            f": process {owner.get('pid')} of {owner.get('user')} on {owner.get('host')}, "
            f"since {since:%Y-%m-%d %H:%M:%S} UTC"
        )
    return LockedError(
        f"Another process is working in {folder}{who}. Wait for it, or give this run another name."
    )


def _machine() -> str:
    """What is the same for all processes of one kernel: containers, too, share its locks."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    except OSError:
        return socket.gethostname()


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a container's user need not have a name
        return str(os.getuid())
