"""`python -m tests.refresh.killed CONFIG DAY MOMENT`: a refresh that kills itself with SIGKILL at a chosen moment.

MOMENT is the number of a change to the files of the refresh (creating, opening for writing, renaming, linking or
removing one; its run's own files left out, which have tests of their own), counted from 1. `after-write` kills when the
table's log has its entry. A negative number kills so many microseconds after the write to the table began. 0 only
counts, and prints how many there were.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
import time

from rich.console import Console

from rayflow.config import load_config
from rayflow.config.refresh import RefreshConfig
from rayflow.refresh import commands
from rayflow.refresh.table import PreferenceTable

CHANGES = {"os.rename", "os.link", "os.remove"}


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def count_changes(root: str, moment: int) -> list[int]:
    """Kill at the change with this number; returns the running count."""
    seen = [0]

    def hook(event: str, arguments: tuple) -> None:
        writes = event == "open" and isinstance(arguments[1], str) and set("wax+") & set(arguments[1])
        if event not in CHANGES and not writes:
            return
        path = str(arguments[0])
        if not path.startswith(root) or "/run/" in path or "/lease/" in path:
            return
        seen[0] += 1
        if seen[0] == moment:
            die()

    sys.addaudithook(hook)
    return seen


def main(path: str, day: str, moment: str) -> None:
    config = load_config(path, [], RefreshConfig)
    seen = count_changes(str(config.root), int(moment) if moment.isdigit() else 0)
    replace = PreferenceTable.replace

    def watched(*arguments):  # noqa: ANN002, ANN202
        if moment.startswith("-"):
            wait = -int(moment) / 1e6
            threading.Thread(target=lambda: (time.sleep(wait), die()), daemon=True).start()
        version = replace(*arguments)
        if moment == "after-write" or moment.startswith("-"):
            die()
        return version

    PreferenceTable.replace = watched
    commands.refresh(config, day, Console(quiet=True))
    print(seen[0])


if __name__ == "__main__":
    main(*sys.argv[1:])
