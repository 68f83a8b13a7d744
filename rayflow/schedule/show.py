"""Schedules and their history as data for machines and as lines for people. Times are shown in the schedule's zone."""

from __future__ import annotations

import textwrap
from datetime import datetime
from typing import Any

from rayflow.schedule.ledger import Ledger
from rayflow.schedule.records import Note, Run, Schedule

POLICIES = {
    "run-once": "a missed time is made up for once, with the latest day, as soon as possible",
    "skip": "a missed time is left out",
}
_NOTES = {
    "down": "missed: no server, or the machine or its clock stood still or jumped",
    "busy": "missed: the run before was still going",
    "paused": "left out: paused",
    "again": "came again after the clock was set back; had been run, not run twice",
    "clock": "the clock was set back",
}


def described(ledger: Ledger, schedule: Schedule, now: datetime) -> dict[str, Any]:
    """A schedule with its next time and its last run, as plain JSON values."""
    last = ledger.last_run(schedule.name)
    coming = None if schedule.paused else schedule.times.after(max(schedule.cursor, now))
    return {
        "name": schedule.name,
        "command": [schedule.command, str(schedule.config)],
        "program": str(schedule.program) if schedule.program else None,
        "folder": str(schedule.folder),
        "cron": schedule.cron,
        "timezone": schedule.timezone,
        "missed": schedule.missed,
        "state": state_of(ledger, schedule),
        "next": _iso(schedule, coming),
        "last": run_described(schedule, last) if last else None,
    }


def state_of(ledger: Ledger, schedule: Schedule) -> str:
    """In a word: running, paused, to be resumed, waiting."""
    if ledger.is_running(schedule.name):
        return "running"
    if schedule.paused:
        return "paused"
    return "to be resumed" if ledger.unfinished(schedule.name) else "waiting"


def run_described(schedule: Schedule, run: Run) -> dict[str, Any]:
    """A run as plain JSON values."""
    return {
        "kind": "run",
        "time": _iso(schedule, run.scheduled),
        "date": run.date,
        "started": _iso(schedule, run.started),
        "finished": _iso(schedule, run.finished),
        "attempts": run.attempts,
        "result": run.result,
        "exit_code": run.exit_code,
        "log": str(run.log),
    }


def note_described(schedule: Schedule, note: Note) -> dict[str, Any]:
    """A note as plain JSON values."""
    return {
        "kind": note.kind,
        "first": _iso(schedule, note.first),
        "last": _iso(schedule, note.last),
        "count": note.count,
        "text": _NOTES[note.kind],
    }


def history(ledger: Ledger, schedule: Schedule) -> list[dict[str, Any]]:
    """Runs and notes in the order of their times."""
    runs = [(r.scheduled or r.started, run_described(schedule, r)) for r in ledger.runs(schedule.name)]
    notes = [(n.first, note_described(schedule, n)) for n in ledger.notes(schedule.name)]
    return [entry for _, entry in sorted(runs + notes, key=lambda pair: pair[0])]


def columns(entry: dict[str, Any]) -> tuple[str, str, str, str]:
    """Time, date, what came of it, details: an entry of the history as a table shows it."""
    if entry["kind"] == "run":
        exit_code = "" if entry["exit_code"] is None else f" ({entry['exit_code']})"
        tries = f", {entry['attempts']} attempts" if entry["attempts"] > 1 else ""
        time = minute(entry["time"]) if entry["time"] else f"{minute(entry['started'])}, by hand"
        return time, entry["date"], f"{entry['result']}{exit_code}{tries}", entry["log"]
    if entry["kind"] == "clock":
        return minute(entry["first"]), "", "note", f"{entry['text']} from {minute(entry['last'])}"
    count = f"{entry['count']} times to {minute(entry['last'])}, " if entry["count"] > 1 else ""
    return minute(entry["first"]), "", "note", f"{count}{entry['text']}"


def lines_of(row: dict[str, Any]) -> list[str]:
    """A schedule as `described`, for people: a line for each thing to know, which fits into any terminal."""
    said = {"when": f"{row['cron']}  {row['timezone']}", "next": minute(row["next"]) or "never: paused"}
    if row["last"]:
        time, day, result, _ = columns(row["last"])
        said["last"] = f"{time}, for {day}: {result}"
    said["missed"] = f"{row['missed']}: {POLICIES[row['missed']]}"
    lines = (f"  {key:<8}{value}" for key, value in said.items())
    return [
        f"{row['name']}  {row['state']}",
        *(textwrap.fill(line, 80, subsequent_indent=" " * 10) for line in lines),
    ]


def minute(iso: str | None) -> str:
    """A time without what people do not read, but with its offset: two clocks may show the same hour."""
    return "" if iso is None else f"{datetime.fromisoformat(iso):%Y-%m-%d %H:%M %z}"


def _iso(schedule: Schedule, instant: datetime | None) -> str | None:
    return None if instant is None else schedule.times.local(instant).isoformat(timespec="seconds")
