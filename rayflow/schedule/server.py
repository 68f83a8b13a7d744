"""The loop in the foreground that waits for the next time and starts what is due.

It keeps nothing of its own: all is in the ledger, and who is at work is in the locks. So it may be killed at
any moment, and several servers on one ledger share the work.
"""

from __future__ import annotations

import os
import select
import signal
import sqlite3
import subprocess
from collections.abc import Callable
from datetime import UTC, datetime
from types import FrameType

from rayflow.errors import ArtifactError, RayflowError
from rayflow.schedule.attempt import start
from rayflow.schedule.ledger import Ledger
from rayflow.schedule.lock import Lock
from rayflow.schedule.records import Run, Schedule
from rayflow.schedule.take import take

POLL_S = 2.0
"""The longest wait before the ledger and the wall clock are read again."""

Start = Callable[[Ledger, Run, Lock], "subprocess.Popen[bytes]"]


class Clock:
    """The wall clock, waits that do not follow it, and the signals that end a wait."""

    def __init__(self) -> None:
        self.stops = 0
        self._reader, self._writer = os.pipe()
        os.set_blocking(self._writer, False)

    def listen(self) -> None:
        """From now on, SIGTERM and SIGINT are counted in `stops` and end a wait."""
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._stop)

    def now(self) -> datetime:
        """UTC."""
        return datetime.now(UTC)

    def wait(self, seconds: float) -> None:
        """For so long, by the monotonic clock, or until a signal. A pipe, because a handler must take no lock."""
        if select.select([self._reader], [], [], max(seconds, 0))[0]:
            os.read(self._reader, 64)

    def _stop(self, number: int, frame: FrameType | None) -> None:
        self.stops += 1
        os.write(self._writer, b"x")


class Server:
    """Serves all schedules of a ledger.

    Args:
        ledger: where they are.
        clock: the time and the waits.
        say: takes a line for the operator.
        start: starts an attempt.
    """

    def __init__(
        self, ledger: Ledger, clock: Clock, say: Callable[[str], None], start: Start = start
    ) -> None:
        self.ledger = ledger
        self.clock = clock
        self.say = say
        self.start = start
        self.children: dict[int, subprocess.Popen[bytes]] = {}
        self._troubles: dict[str, str] = {}

    def serve(self) -> None:
        """Until SIGTERM or SIGINT; then the commands that this server started get SIGTERM, and are waited for.

        A second signal leaves them going: the next server finds them. What another server, or a call by hand, has
        started goes on in any case, for whoever did may be waiting for it; it is said.
        """
        while not self.clock.stops:
            self.clock.wait(self.tick())
        for name in self._of_others():
            self.say(f"{name}: goes on, for this server has not started it; the next one finds it")
        for child in self.children.values():
            child.send_signal(signal.SIGTERM)
        if self.children:
            self.say(f"stopping: waiting for {len(self.children)} running; a second signal leaves them going")
        while self.children and self.clock.stops < 2:
            self.clock.wait(0.2)
            self._reap()
        if self.children:
            self.say("left going; the next server finds what is running, and resumes what is not finished")

    def _of_others(self) -> list[str]:
        """The schedules whose command is at work and was not started here, but by a killed server, say."""
        self._reap()
        try:
            own = {self.ledger.run(run_id).schedule for run_id in self.children}
            names = [schedule.name for schedule in self.ledger.schedules() if schedule.name not in own]
            return [name for name in names if self.ledger.is_running(name)]
        except (RayflowError, sqlite3.Error) as error:  # a stop must not fail at what it says
            self._trouble("the ledger", str(error))
            return []

    def tick(self) -> float:
        """Start what is due. Returns the seconds until the next look."""
        self._reap()
        waits = [POLL_S]
        try:
            for schedule in self.ledger.schedules():
                waits.append(self._guarded(schedule))
        except sqlite3.Error as error:
            self._trouble("the ledger", f"{error}; trying again")
        return max(min(waits), 0.0)

    def _guarded(self, schedule: Schedule) -> float:
        """One schedule's trouble must not stop the others."""
        try:
            wait = self._look(schedule)
            self._troubles.pop(schedule.name, None)
            return wait
        except (RayflowError, sqlite3.Error, OSError) as error:
            self._trouble(schedule.name, f"{error}; trying again")
            return POLL_S

    def _look(self, schedule: Schedule) -> float:
        if schedule.paused:
            return POLL_S
        now = self.clock.now()
        due = now < schedule.cursor or schedule.times.after(schedule.cursor) <= now
        if not due and self.ledger.unfinished(schedule.name) is None:
            return (schedule.times.after(now) - now).total_seconds()
        if lock := self.ledger.run_lock(schedule.name):
            self._begin(schedule, lock)
        return POLL_S

    def _begin(self, schedule: Schedule, lock: Lock) -> None:
        """Take what is due, under the lock, which goes to the run or is given back."""
        run, logs = None, []
        try:
            run, logs = take(self.ledger, schedule.name, self.clock.now())
        finally:
            if run is None:
                lock.close()
        if run:
            self.children[run.id] = self.start(self.ledger, run, lock)
            again = f", attempt {run.attempts}" if run.attempts > 1 else ""
            self.say(f"{schedule.name}: started {_what(schedule, run)}{again}; log {run.log}")
        for log in logs:  # after the start: trouble with an old log must not keep the lock
            log.unlink(missing_ok=True)

    def _reap(self) -> None:
        for run_id in [i for i, child in self.children.items() if child.poll() is not None]:
            del self.children[run_id]
            try:
                run = self.ledger.run(run_id)
            except (ArtifactError, sqlite3.Error) as error:
                self._trouble(f"run {run_id}", str(error))
                continue
            code = "" if run.exit_code is None else f", exit code {run.exit_code}"
            word = "lost, will be resumed" if run.state == "running" else run.result
            self.say(f"{run.schedule}: {word}{code}; log {run.log}")

    def _trouble(self, what: str, text: str) -> None:
        """Say it once, not every two seconds."""
        if self._troubles.get(what) != text:
            self._troubles[what] = text
            self.say(f"{what}: {text}")


def _what(schedule: Schedule, run: Run) -> str:
    if run.scheduled is None:
        return f"{run.date}, called by hand"
    return f"the time {schedule.times.local(run.scheduled):%Y-%m-%d %H:%M %Z}"
