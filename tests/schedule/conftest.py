"""A schedule whose command is a small program that writes down when it was called and how it ended."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from rayflow.schedule.ledger import Ledger
from rayflow.schedule.records import Schedule

ROOT = Path(__file__).parents[2]
PATIENCE_S = 60.0
PROGRAM = """#!{python}
import json, os, pathlib, signal, sys, time
here = pathlib.Path({here!r})
def write(event):
    line = json.dumps({{"event": event, "pid": os.getpid(), "arguments": sys.argv[1:], "folder": os.getcwd()}})
    with open(here / "events.jsonl", "a") as sink:
        sink.write(line + "\\n")
def stop(number, frame):
    write("SIGTERM")
    sys.exit(143)
signal.signal(signal.SIGTERM, stop)
write("begin")
print("the program says hello", flush=True)
until = time.monotonic() + 60
while (here / "hold").exists() and time.monotonic() < until:
    time.sleep(0.02)
write("end")
sys.exit(int((here / "exit").read_text()))
"""


class Program:
    """The program, from outside: `hold` keeps it at work, `exit_code` is what it says at the end."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.path = folder / "program"
        self.path.write_text(PROGRAM.format(python=sys.executable, here=str(folder)))
        self.path.chmod(0o700)
        self.exit_code(0)

    def hold(self) -> None:
        (self.folder / "hold").touch()

    def release(self) -> None:
        (self.folder / "hold").unlink(missing_ok=True)

    def exit_code(self, code: int) -> None:
        (self.folder / "exit").write_text(str(code))

    def events(self, event: str) -> list[dict[str, Any]]:
        path = self.folder / "events.jsonl"
        lines = path.read_text().splitlines() if path.exists() else []
        return [e for e in map(json.loads, lines) if e["event"] == event]


@pytest.fixture
def program(tmp_path: Path) -> Iterator[Program]:
    """Ended at the end of the test, whatever became of it."""
    folder = tmp_path / "program-files"
    folder.mkdir()
    made = Program(folder)
    yield made
    made.release()
    for event in made.events("begin"):
        try:
            os.kill(event["pid"], signal.SIGKILL)
        except ProcessLookupError:
            continue


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    with Ledger(tmp_path / "state") as made:
        yield made


def at(text: str) -> datetime:
    """An instant in UTC, such as 2026-03-29T01:00."""
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


@pytest.fixture
def nightly(tmp_path: Path, program: Program) -> Callable[..., Schedule]:
    """A schedule for two o'clock in Berlin, whose last night was dealt with at `cursor`."""

    def make(**changes: Any) -> Schedule:
        values: dict[str, Any] = {
            "name": "nightly",
            "config": tmp_path / "refresh.yaml",
            "folder": tmp_path,
            "cron": "0 2 * * *",
            "timezone": "Europe/Berlin",
            "command": "refresh",
            "program": program.path,
            "missed": "run-once",
            "keep": 100,
            "paused": False,
            "cursor": at("2026-11-20T12:00"),
        }
        return Schedule(**values | changes)

    return make


@pytest.fixture
def due(ledger: Ledger, nightly: Callable[..., Schedule]) -> Schedule:
    """In the ledger: a schedule with one missed time, which a server makes up for at once."""
    schedule = nightly(cursor=datetime.now(UTC) - timedelta(hours=24))
    ledger.put(schedule)
    return schedule


class Servers:
    """Real `rayflow schedule serve` processes."""

    def __init__(self, state: Path) -> None:
        self.state = state
        self.started: list[subprocess.Popen[str]] = []

    def __call__(self) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [sys.executable, "-m", "rayflow", "schedule", "serve", "--state", str(self.state)],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env=os.environ | {"PYTHONPATH": str(ROOT)},
        )
        self.started.append(process)
        return process


@pytest.fixture
def serve(ledger: Ledger) -> Iterator[Servers]:
    servers = Servers(ledger.folder)
    yield servers
    for process in servers.started:
        process.kill()
        process.wait()


def wait_for(condition: Callable[[], Any], what: str) -> Any:
    until = time.monotonic() + PATIENCE_S
    while not (found := condition()):
        assert time.monotonic() < until, f"waited {PATIENCE_S} s for {what}"
        time.sleep(0.05)
    return found
