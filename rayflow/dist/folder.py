"""Where workers work: in the folder of the command, from which relative paths of settings and plug-ins start."""

from __future__ import annotations

import contextlib
import os


def work_in(folder: str) -> None:
    """Change to the folder of the command, where this machine has it.

    A worker of a cluster that was joined starts in the folder in which its machine's Ray was started, and Ray Train's
    in one of its own.
    """
    with contextlib.suppress(OSError):
        os.chdir(folder)
