"""What the ledger holds: schedules, runs, and notes about times that were not run."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Literal

from rayflow.errors import ConfigError
from rayflow.schedule.times import Times

BUSY = 75
RESULTS = {0: "ok", 3: "held back", BUSY: "busy"}
"""What the exit codes of a refresh say: committed, not passed by its gate, somebody else is at it."""

Missed = Literal["run-once", "skip"]
Command = Literal["refresh", "run"]
State = Literal["running", "done", "interrupted"]
NoteKind = Literal["down", "busy", "paused", "again", "clock"]


@dataclass(frozen=True)
class Schedule:
    """One schedule.

    Attributes:
        name: a DNS label, so that every export can carry it.
        config: the configuration, absolute.
        folder: the working directory of the command; relative paths of the configuration start here.
        cron, timezone: see `Times`.
        command: `refresh` is given the day of the scheduled time; `run` is not.
        program: an executable that is given the command's arguments instead of this Python's rayflow.
        missed: what becomes of a time at which nothing could start: "run-once" runs the latest such time as
            soon as possible, "skip" waits for the next.
        keep: finished runs whose record and log are kept.
        paused: nothing is started.
        cursor: the times up to here have been dealt with.
    """

    name: str
    config: Path
    folder: Path
    cron: str
    timezone: str
    command: Command
    program: Path | None
    missed: Missed
    keep: int
    paused: bool
    cursor: datetime

    @property
    def times(self) -> Times:
        """When it runs."""
        return Times(self.cron, self.timezone)

    def arguments(self, date: str | None) -> list[str]:
        """What the program is given; a refresh without a day takes today's."""
        dated = ["--date", date] if self.command == "refresh" and date else []
        return [self.command, str(self.config), *dated]


@dataclass(frozen=True)
class Run:
    """One scheduled time, or one call by hand, with all attempts at it.

    Attributes:
        scheduled: the time; None for a call by hand.
        date: the day that the command is given, ISO.
        state: "running" also where its processes are gone without a word; who holds the schedule's lock knows.
        attempts: starts so far.
        lost: attempts that vanished or were killed.
        started, finished: of the last attempt.
        exit_code: of the command; 128 and the signal's number where one ended it.
        pid: of the last attempt's command.
    """

    id: int
    schedule: str
    scheduled: datetime | None
    date: str
    state: State
    attempts: int
    lost: int
    started: datetime | None
    finished: datetime | None
    exit_code: int | None
    pid: int | None
    log: Path

    @property
    def result(self) -> str:
        """In a word."""
        if self.state == "interrupted" and self.exit_code == BUSY:
            return "busy, to be tried again"
        if self.state != "done":
            return self.state
        return RESULTS.get(self.exit_code or 0, "failed")


@dataclass(frozen=True)
class Note:
    """Times that were not run, and why; or a clock that was set back.

    Attributes:
        kind: "down" (no server, or a machine asleep, or a clock set forward), "busy" (the run before was still
            going), "paused", "again" (they came a second time and had been run), "clock" (it was set back from
            `last` to `first`).
        first, last, count: the times; `count` is at least that where it is `MAX_COUNT`.
    """

    kind: NoteKind
    first: datetime
    last: datetime
    count: int


def check_name(name: str) -> str:
    """A name that files, Kubernetes, systemd and Airflow all accept.

    Raises:
        ConfigError: it is not one.
    """
    if not re.fullmatch(r"[a-z0-9]([a-z0-9-]{0,50}[a-z0-9])?", name):
        raise ConfigError(
            f"'{name}' cannot name a schedule: use up to 52 lower-case letters, digits and dashes, with no dash at "
            "either end."
        )
    return name


def state_folder() -> Path:
    """Where the ledger is kept unless told otherwise, by the XDG rules."""
    base = os.environ.get("XDG_STATE_HOME", "")
    return (Path(base) if base.startswith("/") else Path.home() / ".local" / "state") / "rayflow" / "schedule"
