"""The ledger of schedules: one SQLite file, which is whole after a kill -9 or a power cut at any moment.

    <state>/ledger.sqlite     schedules, runs, notes, and the times that have been claimed
    <state>/locks/<name>      held by whoever runs the schedule (see `lock`)
    <state>/logs/<name>/      one file per run

It holds names, paths and times, and no setting or secret of a configuration. SQLite and the locks need a disk
of this machine; what the command makes is in its own storage. SQLite's rollback journal, not its write-ahead
log: every commit is on the disk before the command starts.
"""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

from rayflow.errors import ArtifactError, ConfigError
from rayflow.schedule.lock import Lock, try_lock
from rayflow.schedule.records import Note, Run, Schedule
from rayflow.schedule.tables import TABLES, VERSION, instant, marks, plain, run_of, schedule_of

_BUSY_TIMEOUT_S = 30.0
_MAX_CLAIMS = 100_000


class Ledger:
    """An open ledger. Several processes may hold one; every change is a transaction.

    Args:
        folder: made if it is missing, for this user only.

    Raises:
        ArtifactError: it cannot be opened, is damaged, or is a later version's.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder.expanduser().absolute()
        self.path = self.folder / "ledger.sqlite"
        try:
            for part in (self.folder, self.folder / "locks", self.folder / "logs"):
                part.mkdir(parents=True, exist_ok=True, mode=0o700)
            self._db = sqlite3.connect(self.path, timeout=_BUSY_TIMEOUT_S, isolation_level=None)
            self._db.row_factory = sqlite3.Row
            self._db.execute("PRAGMA synchronous = FULL")
            self.path.chmod(0o600)
            with self.transaction():
                self._prepare()
        except (sqlite3.Error, OSError) as error:
            raise ArtifactError(
                f"The ledger of schedules {self.path} cannot be used ({error}). Its folder must be writable and on "
                "a disk of this machine; another one is chosen with --state."
            ) from error

    def close(self) -> None:
        """Close the file."""
        self._db.close()

    def __enter__(self) -> Ledger:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @contextlib.contextmanager
    def transaction(self) -> Iterator[None]:
        """All changes of the block, or none. No other process writes meanwhile."""
        self._db.execute("BEGIN IMMEDIATE")
        try:
            yield
        except BaseException:
            if self._db.in_transaction:  # a full disk has rolled it back already
                self._db.execute("ROLLBACK")
            raise
        self._db.execute("COMMIT")

    def run_lock(self, name: str, patience_s: float = 0.0) -> Lock | None:
        """The right to start a schedule's command; None while its command, or another server, has it."""
        return try_lock(self.folder / "locks" / name, patience_s=patience_s)

    def is_running(self, name: str) -> bool:
        """Whether a command of the schedule is at work, whoever started it."""
        lock = self.run_lock(name)
        if lock:
            lock.close()
        return lock is None

    def serving(self) -> Lock:
        """A server's sign of life, shared by all servers of this ledger."""
        lock = try_lock(self.folder / "locks" / ".serve", shared=True, patience_s=10.0)
        if lock is None:
            raise ArtifactError(f"{self.folder / 'locks' / '.serve'} is held by a process that is no server.")
        return lock

    def is_served(self) -> bool:
        """Whether any server is up."""
        lock = try_lock(self.folder / "locks" / ".serve")
        if lock:
            lock.close()
        return lock is None

    # Schedules

    def schedules(self) -> list[Schedule]:
        """All of them, by name."""
        return [schedule_of(row) for row in self._db.execute("SELECT * FROM schedules ORDER BY name")]

    def find(self, name: str) -> Schedule | None:
        """A schedule, if there is one of that name."""
        row = self._db.execute("SELECT * FROM schedules WHERE name = ?", (name,)).fetchone()
        return schedule_of(row) if row else None

    def schedule(self, name: str) -> Schedule:
        """The schedule of that name.

        Raises:
            ConfigError: there is none.
        """
        if found := self.find(name):
            return found
        known = ", ".join(s.name for s in self.schedules()) or "none yet"
        raise ConfigError(f"There is no schedule '{name}' in {self.path}. Known: {known}.")

    def put(self, schedule: Schedule) -> None:
        """Add a schedule, or change the one of its name."""
        values = [plain(getattr(schedule, field)) for field in Schedule.__dataclass_fields__]
        fields = ", ".join(Schedule.__dataclass_fields__)
        self._db.execute(f"INSERT OR REPLACE INTO schedules ({fields}) VALUES ({marks(values)})", values)

    def update(self, name: str, *, paused: bool | None = None, cursor: datetime | None = None) -> None:
        """Change a schedule's state."""
        if paused is not None:
            self._db.execute("UPDATE schedules SET paused = ? WHERE name = ?", (int(paused), name))
        if cursor is not None:
            self._db.execute("UPDATE schedules SET cursor = ? WHERE name = ?", (plain(cursor), name))

    def remove(self, name: str) -> list[Path]:
        """Forget a schedule and its history. Returns the logs, which are the caller's to delete."""
        logs = [run.log for run in self.runs(name)]
        for table in ("runs", "notes", "claims"):
            self._db.execute(f"DELETE FROM {table} WHERE schedule = ?", (name,))
        self._db.execute("DELETE FROM schedules WHERE name = ?", (name,))
        return logs

    # Runs

    def claim(self, schedule: Schedule, scheduled: datetime | None, date: str, now: datetime) -> Run:
        """Begin a run: a scheduled time can be claimed once, ever.

        Raises:
            sqlite3.IntegrityError: it has been.
        """
        if scheduled is not None:
            pair = (schedule.name, plain(scheduled))
            self._db.execute("INSERT INTO claims VALUES (?, ?)", pair)
        added = self._db.execute(
            "INSERT INTO runs (schedule, scheduled, date, started, state, attempts, lost) "
            "VALUES (?, ?, ?, ?, 'running', 1, 0)",
            (schedule.name, plain(scheduled), date, plain(now)),
        )
        stamp = f"{schedule.times.local(scheduled):%Y-%m-%dT%H%M%z}" if scheduled else f"{date}-by-hand"
        log = self.folder / "logs" / schedule.name / f"{stamp}.{added.lastrowid}.log"
        self._db.execute("UPDATE runs SET log = ? WHERE id = ?", (str(log), added.lastrowid))
        return self.run(added.lastrowid)

    def is_claimed(self, name: str, scheduled: datetime) -> bool:
        """Whether a time has been run, or begun."""
        pair = (name, plain(scheduled))
        found = self._db.execute("SELECT 1 FROM claims WHERE schedule = ? AND scheduled = ?", pair)
        return found.fetchone() is not None

    def run(self, run_id: int | None) -> Run:
        """A run by its id.

        Raises:
            ArtifactError: its schedule has been removed meanwhile.
        """
        row = self._db.execute("SELECT * FROM runs WHERE id = ?", (run_id,)).fetchone()
        if row is None:
            raise ArtifactError(f"Run {run_id} is no longer in {self.path}.")
        return run_of(row)

    def runs(self, name: str) -> list[Run]:
        """A schedule's runs, the oldest first."""
        return [
            run_of(r) for r in self._db.execute("SELECT * FROM runs WHERE schedule = ? ORDER BY id", (name,))
        ]

    def unfinished(self, name: str) -> Run | None:
        """The oldest run that has not come to its end."""
        row = self._db.execute(
            "SELECT * FROM runs WHERE schedule = ? AND state != 'done' ORDER BY id LIMIT 1", (name,)
        ).fetchone()
        return run_of(row) if row else None

    def last_run(self, name: str) -> Run | None:
        """The newest run."""
        row = self._db.execute(
            "SELECT * FROM runs WHERE schedule = ? ORDER BY id DESC LIMIT 1", (name,)
        ).fetchone()
        return run_of(row) if row else None

    def set_run(self, run_id: int, **values: Any) -> None:
        """Change columns of a run."""
        pairs = ", ".join(f"{column} = ?" for column in values)
        self._db.execute(f"UPDATE runs SET {pairs} WHERE id = ?", (*map(plain, values.values()), run_id))

    def note(self, name: str, note: Note) -> None:
        """Record times that were not run."""
        values = (name, note.kind, plain(note.first), plain(note.last), note.count)
        self._db.execute(
            "INSERT INTO notes (schedule, kind, first, last, count) VALUES (?, ?, ?, ?, ?)", values
        )

    def notes(self, name: str) -> list[Note]:
        """A schedule's notes, the oldest first."""
        rows = self._db.execute("SELECT * FROM notes WHERE schedule = ? ORDER BY id", (name,))
        return [Note(r["kind"], instant(r["first"]), instant(r["last"]), r["count"]) for r in rows]

    def prune(self, schedule: Schedule) -> list[Path]:
        """Forget what is beyond a schedule's `keep`. Returns logs to delete.

        Claims are kept far longer: they are what stops a time from being run twice.
        """
        name, keep = schedule.name, schedule.keep
        old = (name, name, keep)
        where = "schedule = ? AND id NOT IN (SELECT id FROM {0} WHERE schedule = ? ORDER BY id DESC LIMIT ?)"
        runs = f"{where.format('runs')} AND state = 'done'"
        logs = [Path(r["log"]) for r in self._db.execute(f"SELECT log FROM runs WHERE {runs}", old)]
        self._db.execute(f"DELETE FROM runs WHERE {runs}", old)
        self._db.execute(f"DELETE FROM notes WHERE {where.format('notes')}", old)
        self._db.execute(
            "DELETE FROM claims WHERE schedule = ? AND scheduled <= (SELECT scheduled FROM claims WHERE schedule = ? "
            "ORDER BY scheduled DESC LIMIT 1 OFFSET ?)",
            (name, name, _MAX_CLAIMS),
        )
        return logs

    def _prepare(self) -> None:
        version = self._db.execute("PRAGMA user_version").fetchone()[0]
        if version > VERSION:
            raise ArtifactError(f"The ledger {self.path} was written by a later rayflow. Use that one.")
        if version == 0:
            for statement in filter(str.strip, TABLES.split(";")):
                self._db.execute(statement)
            self._db.execute(f"PRAGMA user_version = {VERSION}")
