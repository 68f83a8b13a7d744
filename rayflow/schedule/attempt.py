"""The process around one run: it starts the command, passes on SIGTERM, waits, and writes down how it ended.

A process of its own, in a session of its own, so that a server that is killed takes no run with it: the
command goes on, its end is recorded, and the next server finds it by the lock that both hold.
"""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import sys
import time
from datetime import UTC, datetime
from pathlib import Path
from types import FrameType

from rayflow.errors import ArtifactError
from rayflow.schedule.ledger import Ledger
from rayflow.schedule.lock import Lock
from rayflow.schedule.records import BUSY, Run, Schedule

EXIT_NOT_STARTED = 127
"""As a shell says that a command cannot be found or started."""
_KILLED = {128 + number for number in (signal.SIGKILL, signal.SIGTERM, signal.SIGINT)}
MAX_BUSY = 36
"""So often a run is started that finds another process at it: with the wait of `take`, for six hours."""
_RETRY_S = (1, 5, 10, 30, 60, 60, 60)


def start(ledger: Ledger, run: Run, lock: Lock) -> subprocess.Popen[bytes]:
    """Start an attempt at a run. The lock goes to it: this process's share is closed.

    Args:
        ledger: holds the run.
        run: claimed, or to be resumed.
        lock: the schedule's.

    Raises:
        ArtifactError: no process, or no log, can be made now; the run is left to be taken up again.
    """
    command = [
        sys.executable,
        "-m",
        "rayflow.schedule.attempt",
        str(ledger.folder),
        str(run.id),
        str(lock.fd),
    ]
    try:
        with lock:
            run.log.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            with open(run.log, "ab", opener=_private) as log:
                return subprocess.Popen(
                    command,
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    start_new_session=True,
                    pass_fds=(lock.fd,),
                )
    except OSError as error:
        ledger.set_run(run.id, state="interrupted")  # by a full disk, say: nothing was lost, try again
        raise ArtifactError(f"The run {run.log} cannot be started ({error}).") from error


class Attempt:
    """One start of a schedule's command.

    Args:
        ledger: holds the run.
        run_id: of the run.
        lock_fd: the inherited lock, which the command inherits in turn.
    """

    def __init__(self, ledger: Ledger, run_id: int, lock_fd: int) -> None:
        self.ledger = ledger
        self.run = ledger.run(run_id)
        self.schedule = ledger.schedule(self.run.schedule)
        self.lock_fd = lock_fd
        self.stopped = False
        self.child: subprocess.Popen[bytes] | None = None

    def stop(self, number: int, frame: FrameType | None) -> None:
        """SIGTERM or SIGINT: the command is asked to end, once, and is waited for as long as it takes."""
        if self.stopped:
            return
        self.stopped = True
        if self.child:
            self.child.terminate()

    def __call__(self) -> None:
        """Start the command, wait for it, record its end."""
        command = command_line(self.schedule, self.run.date)
        _say(f"attempt {self.run.attempts}: {' '.join(command)}")
        try:
            self.child = subprocess.Popen(
                command,
                cwd=self.schedule.folder,
                stdin=subprocess.DEVNULL,
                start_new_session=True,
                pass_fds=(self.lock_fd,),
            )
        except OSError as error:
            _say(f"cannot be started: {error}")
            self._record(EXIT_NOT_STARTED)
            return
        if self.stopped:  # the signal came while the command was being started
            self.child.terminate()
        self._write(pid=self.child.pid)
        code = self.child.wait()
        self._record(128 - code if code < 0 else code)

    def _record(self, code: int) -> None:
        """How it ended. What we were told to stop is taken up again; so, a few times, is what others killed.

        What found another process at it is tried again later, unless a person called it, who has been told.
        """
        _say(f"exit code {code}")
        if code in _KILLED and not self.stopped:
            self._write(finished=time.time(), exit_code=code)  # still "running", with nobody there: lost
            return
        later = code == BUSY and self.run.scheduled is not None and self.run.attempts < MAX_BUSY
        state = "interrupted" if later or (self.stopped and code != 0) else "done"
        self._write(state=state, finished=time.time(), exit_code=code)

    def _write(self, **values: object) -> None:
        """Into the ledger. A full disk is waited for, under the lock; what is never written down is "lost"."""
        for wait in _RETRY_S:
            try:
                self.ledger.set_run(self.run.id, **values)
                return
            except sqlite3.OperationalError as error:
                _say(f"the ledger cannot be written ({error}); trying again")
                time.sleep(wait)


def command_line(schedule: Schedule, date: str) -> list[str]:
    """The command of a run."""
    program = [str(schedule.program)] if schedule.program else [sys.executable, "-m", "rayflow"]
    return [*program, *schedule.arguments(date)]


def _say(text: str) -> None:
    print(f"[{datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ}] rayflow schedule: {text}", flush=True)


def _private(path: str, flags: int) -> int:
    """Logs hold what the command says: for this user only."""
    return os.open(path, flags, 0o600)


def main() -> None:
    """`python -m rayflow.schedule.attempt FOLDER RUN LOCK_FD`, which only `start` calls."""
    folder, run_id, lock_fd = sys.argv[1:]
    with Ledger(Path(folder)) as ledger:
        attempt = Attempt(ledger, int(run_id), int(lock_fd))
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, attempt.stop)
        attempt()


if __name__ == "__main__":
    main()
