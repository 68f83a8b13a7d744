"""The command of a schedule as one line for a shell."""

from __future__ import annotations

import shlex
import sys

from rayflow.schedule.records import Schedule


def command(schedule: Schedule, day: str) -> str:
    """The command line.

    Args:
        schedule: whose command it is.
        day: a word that becomes the day; only a refresh takes it.
    """
    program = [str(schedule.program)] if schedule.program else [sys.executable, "-m", "rayflow.cli"]
    line = shlex.join([*program, *schedule.arguments(None)])
    return f"{line} --date {day}" if schedule.command == "refresh" else line
