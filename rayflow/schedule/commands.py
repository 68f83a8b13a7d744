"""What the commands do: add, remove, pause, resume, run now. Each says its mistakes before anything is changed."""

from __future__ import annotations

import dataclasses
import os
import signal
import subprocess
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from itertools import islice
from pathlib import Path
from typing import BinaryIO

from rayflow.errors import BusyError, ConfigError
from rayflow.schedule.attempt import start
from rayflow.schedule.due import MAX_COUNT
from rayflow.schedule.ledger import Ledger
from rayflow.schedule.lock import Lock
from rayflow.schedule.records import Command, Note, Run, Schedule, check_name
from rayflow.schedule.server import Clock
from rayflow.schedule.take import resume as take_unfinished

_PATIENCE_S = 1.0
_STATE = {"paused", "cursor"}


def add(ledger: Ledger, schedule: Schedule, replace: bool = False) -> str:
    """Add a schedule, checked. Adding the same one again changes nothing.

    Returns:
        What there is to know about it, for people; empty if nothing.

    Raises:
        ConfigError: the name, expression, zone, configuration or program is not usable, or the name is taken.
    """
    check_name(schedule.name)
    times = schedule.times
    _check_program(schedule.program)
    _check_config(schedule.command, schedule.config)
    with ledger.transaction():
        old = ledger.find(schedule.name)
        changed = _changed(old, schedule) if old else []
        if old and changed and not replace:
            raise ConfigError(
                f"There is a schedule '{schedule.name}' with another {', '.join(changed)}. Give this one another "
                "name, or change that one with --replace."
            )
        if old is None or changed:
            ledger.put(dataclasses.replace(schedule, paused=bool(old and old.paused)))
    if schedule.command == "refresh" and times.several_a_day(schedule.cursor):
        return (
            "It comes several times a day, and a refresh is for a day: once the day is done, its later times have "
            "nothing to do."
        )
    return ""


def remove(ledger: Ledger, name: str) -> None:
    """Forget a schedule, its history and its logs.

    Raises:
        BusyError: it is running.
    """
    ledger.schedule(name)
    with _lock(ledger, name), ledger.transaction():
        logs = ledger.remove(name)
    for log in logs:
        log.unlink(missing_ok=True)


def pause(ledger: Ledger, name: str) -> Schedule:
    """Start nothing any more; what runs goes on."""
    with ledger.transaction():
        ledger.schedule(name)
        ledger.update(name, paused=True)
        return ledger.schedule(name)


def resume(ledger: Ledger, name: str, now: datetime) -> Note | None:
    """Start again, with the next time: what came during the pause was not wanted. Returns a note of it."""
    with ledger.transaction():
        schedule = ledger.schedule(name)
        if not schedule.paused:
            return None
        passed = list(islice(schedule.times.between(schedule.cursor, now), MAX_COUNT))
        note = Note("paused", passed[0], passed[-1], len(passed)) if passed else None
        if note:
            ledger.note(name, note)
        ledger.update(name, paused=False, cursor=now)
        return note


def run_now(ledger: Ledger, name: str, day: str | None, out: BinaryIO, say: Callable[[str], None]) -> Run:
    """Run once in the foreground, also while paused. An unfinished run of the same day is what is run.

    Args:
        ledger: holds the schedule.
        name: of the schedule.
        day: what the command is given, ISO; None for today in the schedule's zone.
        out: is written what the command says.
        say: takes a line for people.

    Returns:
        The run, ended. SIGTERM and Ctrl-C are passed on, and the end is waited for; a second one leaves it going.

    Raises:
        ConfigError: the day is none.
        BusyError: it is running already.
    """
    schedule = ledger.schedule(name)
    clock = Clock()
    now = clock.now()
    day = _day(day) if day else schedule.times.date(now)
    lock = _lock(ledger, name)
    with ledger.transaction():
        unfinished = ledger.unfinished(name)
        same = unfinished is not None and unfinished.date == day
        again = take_unfinished(ledger, name, now) if same else None
        run = again or ledger.claim(schedule, None, day, now)
    begin = run.log.stat().st_size if run.log.exists() else 0
    clock.listen()
    say(f"Log: {run.log}")
    child = start(ledger, run, lock)
    _follow(child, run.log, begin, clock, out)
    return ledger.run(run.id)


def new_schedule(
    name: str, config: Path, cron: str, timezone: str, command: Command, **others: object
) -> Schedule:
    """A schedule that begins now, in this folder."""
    program = others.pop("program", None)
    return Schedule(
        name=name,
        config=config.expanduser().absolute(),
        folder=Path.cwd(),
        cron=" ".join(cron.split()),
        timezone=timezone,
        command=command,
        program=Path(str(program)).expanduser().absolute() if program else None,
        paused=False,
        cursor=datetime.now(UTC),
        **others,  # type: ignore[arg-type]
    )


def _follow(child: subprocess.Popen[bytes], log: Path, begin: int, clock: Clock, out: BinaryIO) -> None:
    """Show the log as it grows, until the run ends or a second signal comes."""
    asked = False
    with open(log, "rb") as source:
        source.seek(begin)
        while True:
            ended = child.poll() is not None  # before the last look at the log
            out.write(source.read())
            out.flush()
            if ended or clock.stops > 1:
                return
            if clock.stops and not asked:
                child.send_signal(signal.SIGTERM)
                asked = True
            clock.wait(0.1)


def _lock(ledger: Ledger, name: str) -> Lock:
    """The schedule's lock.

    Raises:
        BusyError: it is running.
    """
    if lock := ledger.run_lock(name, _PATIENCE_S):
        return lock
    last = ledger.last_run(name)
    since = f" since {last.started:%Y-%m-%d %H:%M} UTC; log {last.log}" if last and last.started else ""
    raise BusyError(f"The schedule '{name}' is running{since}. Wait for its end.")


def _changed(old: Schedule, new: Schedule) -> list[str]:
    fields = [f.name for f in dataclasses.fields(Schedule) if f.name not in _STATE]
    return [name for name in fields if getattr(old, name) != getattr(new, name)]


def _check_config(command: Command, path: Path) -> None:
    """Whether the command can read the file, and the file is meant for it.

    Raises:
        ConfigError: the configuration is unusable, or a run's and to be refreshed.
    """
    from rayflow.config import load_config

    if command == "run":
        load_config(path)
        return
    from rayflow.config.load import command_of
    from rayflow.config.refresh import RefreshConfig

    load_config(path, None, RefreshConfig)
    if (
        command_of(path) != command
    ):  # every night would do other work than the same file does by `rayflow run`
        raise ConfigError(
            f"{path} has no block 'refresh': it describes a run. To keep a table of its pairs up to date, add "
            "`refresh: {}` to it; to run it, add `--command run`."
        )


def _check_program(program: Path | None) -> None:
    if program is not None and not (program.is_file() and os.access(program, os.X_OK)):
        raise ConfigError(f"The program {program} is no file that can be executed.")


def _day(text: str) -> str:
    try:
        return date.fromisoformat(text).isoformat()
    except ValueError:
        raise ConfigError(
            f"'{text}' is no day. Write it as {datetime.now(UTC) - timedelta(1):%Y-%m-%d}."
        ) from None
