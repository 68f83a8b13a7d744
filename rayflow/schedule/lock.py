"""Locks that the kernel keeps: they end with their last owner, also by kill -9, and none is ever stale.

A run's lock is inherited by the process around the command and by the command. So "is it still running?" is
one question to the kernel, whichever of the processes has died, and no process id is ever trusted.
"""

from __future__ import annotations

import fcntl
import os
import time
from pathlib import Path

from rayflow.errors import ArtifactError


class Lock:
    """An open, locked file. Closing it gives the lock back, unless a child has inherited it."""

    def __init__(self, fd: int) -> None:
        self.fd = fd

    def close(self) -> None:
        """Drop this process's share. No explicit unlock: that would take it from the child, too."""
        os.close(self.fd)

    def __enter__(self) -> Lock:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def try_lock(path: Path, shared: bool = False, patience_s: float = 0.0) -> Lock | None:
    """Take a lock; None if another process has it.

    Args:
        path: the file; made if it is missing.
        shared: with others who share it.
        patience_s: how long it is tried: somebody may only be looking whether it is held.

    Raises:
        ArtifactError: the file cannot be opened, or its storage has no locks.
    """
    try:
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise ArtifactError(f"{path} cannot be opened ({error.strerror}).") from error
    until = time.monotonic() + patience_s
    while True:
        try:
            fcntl.flock(fd, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
            return Lock(fd)
        except BlockingIOError:
            if time.monotonic() >= until:
                os.close(fd)
                return None
            time.sleep(0.02)
        except OSError as error:
            os.close(fd)
            raise ArtifactError(
                f"{path} cannot be locked ({error.strerror}). Keep the schedules on a disk of this machine (--state)."
            ) from error
