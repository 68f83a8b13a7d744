"""The command of a schedule as one line for a shell."""

from __future__ import annotations

import shlex
import sys

from rayflow.cluster.pods import scheduled_day
from rayflow.schedule.records import Schedule


def command(schedule: Schedule, day: str | None = None) -> str:
    """The command line.

    Args:
        schedule: whose command it is.
        day: a word that becomes the day, which only a refresh takes; None: that of the schedule's latest time.
    """
    own = [sys.executable, "-m", "rayflow"]
    program = [str(schedule.program)] if schedule.program else own
    line = shlex.join([*program, *schedule.arguments(None)])
    day = day or scheduled_day(schedule.cron, schedule.timezone, own)
    return f"{line} --date {day}" if schedule.command == "refresh" else line
