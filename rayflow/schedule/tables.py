"""The ledger's tables, and how a row becomes a record."""

from __future__ import annotations

import sqlite3
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from rayflow.schedule.records import Run, Schedule

VERSION = 1
TABLES = """
CREATE TABLE schedules (
    name TEXT PRIMARY KEY, config TEXT, folder TEXT, cron TEXT, timezone TEXT, command TEXT, program TEXT,
    missed TEXT, keep INTEGER, paused INTEGER, cursor REAL
);
CREATE TABLE runs (
    id INTEGER PRIMARY KEY AUTOINCREMENT, schedule TEXT, scheduled REAL, date TEXT, state TEXT,
    attempts INTEGER, lost INTEGER, started REAL, finished REAL, exit_code INTEGER, pid INTEGER, log TEXT
);
CREATE INDEX runs_by_schedule ON runs (schedule, id);
CREATE TABLE notes (
    id INTEGER PRIMARY KEY AUTOINCREMENT, schedule TEXT, kind TEXT, first REAL, last REAL, count INTEGER
);
CREATE TABLE claims (schedule TEXT, scheduled REAL, PRIMARY KEY (schedule, scheduled)) WITHOUT ROWID;
"""


def marks(values: list[Any]) -> str:
    """Placeholders of a statement."""
    return ", ".join("?" * len(values))


def plain(value: Any) -> Any:
    """A value as SQLite stores it; instants in seconds since 1970."""
    if isinstance(value, datetime):
        return value.timestamp()
    return str(value) if isinstance(value, Path) else value


def instant(seconds: float | None) -> Any:
    """An instant from what is stored, UTC."""
    return None if seconds is None else datetime.fromtimestamp(seconds, UTC)


def schedule_of(row: sqlite3.Row) -> Schedule:
    """A schedule from its row."""
    values = dict(row) | {
        "config": Path(row["config"]),
        "folder": Path(row["folder"]),
        "program": Path(row["program"]) if row["program"] else None,
        "paused": bool(row["paused"]),
        "cursor": instant(row["cursor"]),
    }
    return Schedule(**values)


def run_of(row: sqlite3.Row) -> Run:
    """A run from its row."""
    instants = {key: instant(row[key]) for key in ("scheduled", "started", "finished")}
    return Run(**dict(row) | instants | {"log": Path(row["log"])})
