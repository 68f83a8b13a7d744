"""The server with a clock of the test's and runs that the test ends: what is started, when, and what is recorded."""

from __future__ import annotations

import signal
import sqlite3
import subprocess
from collections.abc import Callable
from datetime import datetime, timedelta
from pathlib import Path

import pytest

from rayflow.errors import ArtifactError, ConfigError
from rayflow.schedule import commands, server
from rayflow.schedule.attempt import MAX_BUSY, Attempt, command_line
from rayflow.schedule.attempt import start as start_attempt
from rayflow.schedule.ledger import Ledger
from rayflow.schedule.lock import Lock
from rayflow.schedule.records import Run, Schedule
from rayflow.schedule.server import Server
from rayflow.schedule.show import history
from rayflow.schedule.take import MAX_LOST
from tests.schedule.conftest import Program, at


class FakeClock:
    """Stands still except in waits, or where the test moves it."""

    def __init__(self, now: datetime) -> None:
        self.time = now
        self.stops = 0

    def now(self) -> datetime:
        return self.time

    def wait(self, seconds: float) -> None:
        self.time += timedelta(seconds=seconds)


class FakeAttempt:
    """Holds the lock, as a real attempt does, until the test ends it."""

    def __init__(self, ledger: Ledger, run: Run, lock: Lock, clock: FakeClock) -> None:
        self.ledger, self.run, self.lock, self.clock = ledger, run, lock, clock
        self.ended = False

    def poll(self) -> int | None:
        return 0 if self.ended else None

    def send_signal(self, number: int) -> None:
        assert number == signal.SIGTERM
        self.end(143, "interrupted")

    def end(self, code: int = 0, state: str | None = "done") -> None:
        """With a state of None it vanishes without a word."""
        if state:
            self.ledger.set_run(self.run.id, state=state, exit_code=code, finished=self.clock.now())
        self.lock.close()
        self.ended = True


class World:
    """A server, its clock, and the attempts that it has started."""

    def __init__(self, ledger: Ledger, now: datetime) -> None:
        self.ledger = ledger
        self.clock = FakeClock(now)
        self.attempts: list[FakeAttempt] = []
        self.said: list[str] = []
        self.server = Server(ledger, self.clock, self.said.append, self._start)  # type: ignore[arg-type]

    def _start(self, ledger: Ledger, run: Run, lock: Lock) -> FakeAttempt:
        self.attempts.append(FakeAttempt(ledger, run, lock, self.clock))
        return self.attempts[-1]

    def until(self, text: str) -> None:
        """Serve until a time."""
        while (left := (at(text) - self.clock.time).total_seconds()) > 0:
            self.clock.wait(min(self.server.tick(), left))
        self.server.tick()

    @property
    def times(self) -> list[datetime | None]:
        return [attempt.run.scheduled for attempt in self.attempts]


@pytest.fixture(autouse=True)
def _looks_seldom(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every ten minutes is enough for a clock of ours; a time that comes sooner still ends the wait."""
    monkeypatch.setattr(server, "POLL_S", 600.0)


@pytest.fixture
def world(ledger: Ledger) -> World:
    return World(ledger, at("2026-11-20T12:00"))


def kinds(ledger: Ledger, name: str = "nightly") -> list[tuple[str, int]]:
    return [(note.kind, note.count) for note in ledger.notes(name)]


def test_a_night_is_run_at_its_time_for_its_day(world: World, nightly: Callable[..., Schedule]) -> None:
    world.ledger.put(nightly())
    world.until("2026-11-21T00:59")
    assert world.attempts == []
    world.until("2026-11-21T01:01")
    (attempt,) = world.attempts
    assert attempt.run.scheduled == at("2026-11-21T01:00") and attempt.run.date == "2026-11-21"
    assert attempt.run.started == at("2026-11-21T01:00")
    attempt.end()
    world.until("2026-11-22T01:01")
    assert [a.run.date for a in world.attempts] == ["2026-11-21", "2026-11-22"]
    assert kinds(world.ledger) == []


def test_the_day_is_the_zones_and_not_that_of_utc(world: World, nightly: Callable[..., Schedule]) -> None:
    world.ledger.put(nightly(cron="30 0 * * *"))
    world.until("2026-11-20T23:40")
    assert [a.run.date for a in world.attempts] == ["2026-11-21"]


def test_nights_at_both_changes_of_the_clocks(ledger: Ledger, nightly: Callable[..., Schedule]) -> None:
    for start, end, expected in (
        ("2026-03-28T12:00", "2026-03-30T12:00", ["2026-03-29T01:00", "2026-03-30T00:30"]),
        ("2026-10-24T12:00", "2026-10-26T12:00", ["2026-10-25T00:30", "2026-10-26T01:30"]),
    ):
        world = World(ledger, at(start))
        ledger.put(nightly(cron="30 2 * * *", cursor=at(start)))
        while world.clock.time < at(end):
            world.clock.wait(world.server.tick())
            for attempt in world.attempts:
                if not attempt.ended:
                    attempt.end()
        assert world.times == [at(t) for t in expected]


def test_a_run_never_overlaps_itself_and_the_times_meanwhile_are_recorded(
    world: World, nightly: Callable[..., Schedule]
) -> None:
    world.ledger.put(nightly(cron="0 * * * *"))
    other = World(world.ledger, at("2026-11-20T12:00"))
    for hour in range(13, 17):
        world.until(f"2026-11-20T{hour}:10")
        other.until(f"2026-11-20T{hour}:10")
    assert world.times + other.times == [at("2026-11-20T13:00")]
    world.attempts[0].end()
    other.until("2026-11-20T16:11")
    world.until("2026-11-20T16:11")
    assert world.times + other.times == [at("2026-11-20T13:00"), at("2026-11-20T16:00")]
    assert kinds(world.ledger) == [("busy", 2)]


def test_a_server_that_was_down_for_three_nights_runs_the_last_one(
    world: World, nightly: Callable[..., Schedule]
) -> None:
    world.ledger.put(nightly())
    world.ledger.put(nightly(name="other", missed="skip"))
    world.clock.time = at("2026-11-23T09:00")
    world.server.tick()
    assert [(a.run.schedule, a.run.date) for a in world.attempts] == [("nightly", "2026-11-23")]
    assert kinds(world.ledger) == [("down", 2)] and kinds(world.ledger, "other") == [("down", 3)]


def test_a_clock_set_back_runs_no_time_twice_and_the_next_one_all_the_same(
    world: World, nightly: Callable[..., Schedule]
) -> None:
    world.ledger.put(nightly(cron="0 * * * *"))
    world.until("2026-11-20T13:01")
    world.attempts[0].end()
    world.clock.time = at("2026-11-20T11:00")
    world.until("2026-11-20T14:01")
    # 12:00 had been before the schedule was there: it is a time like others now.
    assert world.times == [at("2026-11-20T13:00"), at("2026-11-20T12:00")]
    world.attempts[1].end()
    world.until("2026-11-20T14:02")
    assert world.times[2:] == [at("2026-11-20T14:00")]
    assert ("again", 1) in kinds(world.ledger) and ("clock", 0) in kinds(world.ledger)


def test_a_clock_that_jumps_to_2099_and_back_does_not_stop_the_schedule(
    world: World, nightly: Callable[..., Schedule]
) -> None:
    world.ledger.put(nightly())
    world.clock.time = at("2099-01-01T12:00")
    world.server.tick()
    world.attempts[0].end()
    world.clock.time = at("2026-11-20T13:00")
    world.until("2026-11-21T01:01")
    assert world.times == [at("2099-01-01T01:00"), at("2026-11-21T01:00")]


def test_a_run_that_vanished_is_taken_up_again_for_its_own_day_before_anything_newer(
    world: World, nightly: Callable[..., Schedule]
) -> None:
    world.ledger.put(nightly())
    world.until("2026-11-21T01:01")
    world.attempts[0].end(state=None)
    later = World(world.ledger, at("2026-11-24T09:00"))
    later.server.tick()
    assert [(a.run.date, a.run.attempts) for a in later.attempts] == [("2026-11-21", 2)]
    assert later.attempts[0].run.lost == 1
    later.attempts[0].end()
    later.server.tick()
    assert [a.run.date for a in later.attempts] == ["2026-11-21", "2026-11-24"]


def test_a_run_that_vanishes_again_and_again_is_given_up_and_the_next_night_comes(
    world: World, nightly: Callable[..., Schedule]
) -> None:
    world.ledger.put(nightly())
    world.until("2026-11-21T01:01")
    for _ in range(MAX_LOST):
        world.attempts[-1].end(state=None)
        world.server.tick()
    assert len(world.attempts) == MAX_LOST
    run = world.ledger.last_run("nightly")
    assert run and (run.result, run.exit_code, run.lost) == ("failed", 137, MAX_LOST)
    world.until("2026-11-22T01:01")
    assert world.attempts[-1].run.date == "2026-11-22"


def test_a_run_that_finds_another_process_at_it_is_tried_again_later_for_its_own_day(
    world: World, nightly: Callable[..., Schedule], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server, "POLL_S", 60.0)
    world.ledger.put(nightly())
    world.until("2026-11-21T01:01")
    world.attempts[0].end(75, "interrupted")
    world.until("2026-11-21T01:09")
    assert len(world.attempts) == 1 and world.ledger.last_run("nightly").result == "busy, to be tried again"
    world.until("2026-11-21T01:12")
    assert [(a.run.date, a.run.attempts, a.run.lost) for a in world.attempts[1:]] == [("2026-11-21", 2, 0)]
    world.attempts[1].end()
    world.until("2026-11-22T01:01")
    assert [a.run.date for a in world.attempts] == ["2026-11-21", "2026-11-21", "2026-11-22"]


def test_a_time_that_comes_while_an_older_run_waits_is_run_and_the_older_one_too(
    world: World, nightly: Callable[..., Schedule]
) -> None:
    world.ledger.put(nightly())
    world.until("2026-11-21T01:00")
    world.clock.time = at("2026-11-22T00:55")
    world.attempts[0].end(75, "interrupted")
    world.until("2026-11-22T01:00")
    assert world.attempts[-1].run.date == "2026-11-22"
    world.attempts[-1].end()
    world.until("2026-11-22T01:20")
    assert [a.run.date for a in world.attempts] == ["2026-11-21", "2026-11-22", "2026-11-21"]


@pytest.mark.parametrize(
    ("by_hand", "attempts", "state"),
    [(False, 1, "interrupted"), (False, MAX_BUSY, "done"), (True, 1, "done")],
)
def test_a_busy_run_is_tried_again_a_bounded_number_of_times_and_a_person_is_told_at_once(
    by_hand: bool,
    attempts: int,
    state: str,
    ledger: Ledger,
    nightly: Callable[..., Schedule],
    program: Program,
) -> None:
    ledger.put(nightly())
    now = at("2026-11-21T01:00")
    run = ledger.claim(nightly(), None if by_hand else now, "2026-11-21", now)
    ledger.set_run(run.id, attempts=attempts)
    program.exit_code(75)
    with ledger.run_lock("nightly") as lock:
        Attempt(ledger, run.id, lock.fd)()
    found = ledger.run(run.id)
    assert (found.state, found.exit_code) == (state, 75)
    assert found.result == ("busy" if state == "done" else "busy, to be tried again")


def test_a_stop_passes_on_sigterm_and_the_run_is_resumed_by_the_next_server(
    world: World, nightly: Callable[..., Schedule]
) -> None:
    world.ledger.put(nightly())
    world.until("2026-11-21T01:01")
    world.clock.stops = 1
    world.server.serve()
    assert world.attempts[0].ended and world.server.children == {}
    again = World(world.ledger, world.clock.time)
    again.server.tick()
    assert [(a.run.attempts, a.run.lost) for a in again.attempts] == [(2, 0)]


def test_a_stop_says_what_goes_on_because_another_server_has_started_it(
    world: World, nightly: Callable[..., Schedule]
) -> None:
    world.ledger.put(nightly())
    world.until("2026-11-21T01:01")
    (orphan,) = world.attempts
    again = World(world.ledger, world.clock.time)  # the first server was killed
    again.server.tick()
    again.clock.stops = 1
    again.server.serve()
    assert again.said == ["nightly: goes on, for this server has not started it; the next one finds it"]
    assert not orphan.ended and world.ledger.is_running("nightly")
    world.clock.stops = 1
    world.server.serve()  # and of its own it does not say so
    assert orphan.ended and not any("not started it" in line for line in world.said)


def test_a_second_signal_leaves_a_command_going_that_does_not_end(
    world: World, nightly: Callable[..., Schedule], monkeypatch: pytest.MonkeyPatch
) -> None:
    world.ledger.put(nightly())
    world.until("2026-11-21T01:01")
    (stubborn,) = world.attempts
    monkeypatch.setattr(stubborn, "send_signal", lambda number: setattr(world.clock, "stops", 2))
    world.clock.stops = 1
    world.server.serve()
    assert not stubborn.ended and world.ledger.is_running("nightly")
    assert "the next server finds" in world.said[-1]


def test_a_full_disk_at_the_start_loses_nothing(
    world: World, nightly: Callable[..., Schedule], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The real start, whose log cannot be made."""
    world.ledger.put(nightly())
    monkeypatch.setattr(world.server, "start", start_attempt)
    logs = world.ledger.folder / "logs"
    logs.rmdir()
    logs.write_text("in the way")
    world.until("2026-11-21T01:01")
    for _ in range(5):
        world.server.tick()
    assert any("cannot be started" in line for line in world.said)
    assert not world.ledger.is_running("nightly")
    assert world.ledger.last_run("nightly").lost == 0
    monkeypatch.setattr(world.server, "start", world._start)
    world.server.tick()
    assert [a.run.date for a in world.attempts] == ["2026-11-21"]


def test_a_pause_starts_nothing_and_leaves_its_times_out(
    world: World, nightly: Callable[..., Schedule]
) -> None:
    world.ledger.put(nightly())
    commands.pause(world.ledger, "nightly")
    world.until("2026-11-22T09:00")
    note = commands.resume(world.ledger, "nightly", world.clock.time)
    assert note and (note.kind, note.count) == ("paused", 2)
    world.until("2026-11-22T10:00")
    assert world.attempts == []
    world.until("2026-11-23T01:01")
    assert [a.run.date for a in world.attempts] == ["2026-11-23"]
    assert commands.resume(world.ledger, "nightly", world.clock.time) is None


def test_a_changed_schedule_is_noticed_within_a_look(world: World, nightly: Callable[..., Schedule]) -> None:
    world.ledger.put(nightly())
    assert world.server.tick() <= server.POLL_S
    world.ledger.put(nightly(cron="1 14 * * *"))
    world.until("2026-11-20T13:02")
    assert world.times == [at("2026-11-20T13:01")]


def test_one_schedules_trouble_is_said_once_and_does_not_stop_the_others(
    world: World, nightly: Callable[..., Schedule]
) -> None:
    world.ledger.put(nightly(name="broken", timezone="Gone/Zone"))
    world.ledger.put(nightly())
    world.until("2026-11-21T01:01")
    assert [a.run.schedule for a in world.attempts] == ["nightly"]
    assert len([line for line in world.said if "Gone/Zone" in line]) == 1


def test_a_time_can_be_claimed_once_ever(ledger: Ledger, nightly: Callable[..., Schedule]) -> None:
    schedule = nightly()
    ledger.claim(schedule, at("2026-11-21T01:00"), "2026-11-21", at("2026-11-21T01:00"))
    with pytest.raises(sqlite3.IntegrityError), ledger.transaction():
        ledger.claim(schedule, at("2026-11-21T01:00"), "2026-11-21", at("2026-11-21T01:00"))
    assert len(ledger.runs("nightly")) == 1


def test_history_is_kept_to_its_length_with_its_logs_and_claims_longer(
    world: World, nightly: Callable[..., Schedule]
) -> None:
    world.ledger.put(nightly(cron="0 * * * *", keep=3))
    for hour in range(13, 20):
        world.until(f"2026-11-20T{hour}:01")
        log = world.attempts[-1].run.log
        log.parent.mkdir(exist_ok=True)
        log.write_text("said")
        world.attempts[-1].end()
    kept = world.ledger.runs("nightly")
    assert [run.scheduled.hour for run in kept if run.scheduled] == [17, 18, 19]
    assert sorted(log.parent.iterdir()) == sorted(run.log for run in kept)
    assert world.ledger.is_claimed("nightly", at("2026-11-20T13:00"))
    assert [entry["result"] for entry in history(world.ledger, nightly())] == ["ok"] * 3


def test_a_ledger_is_for_its_user_alone_and_a_later_or_damaged_one_is_refused(tmp_path: Path) -> None:
    with Ledger(tmp_path / "state") as ledger:
        assert ledger.path.stat().st_mode & 0o777 == 0o600
        assert ledger.folder.stat().st_mode & 0o777 == 0o700
        ledger._db.execute("PRAGMA user_version = 99")
    with pytest.raises(ArtifactError, match="later rayflow"):
        Ledger(tmp_path / "state")
    ledger.path.write_bytes(b"this is no database" * 100)
    with pytest.raises(ArtifactError, match="cannot be used"):
        Ledger(tmp_path / "state")


def test_an_unknown_name_says_which_there_are(ledger: Ledger, nightly: Callable[..., Schedule]) -> None:
    ledger.put(nightly())
    with pytest.raises(ConfigError, match="no schedule 'nightli'.*Known: nightly"):
        commands.pause(ledger, "nightli")


def test_without_a_program_it_is_this_rayflow_that_is_called(nightly: Callable[..., Schedule]) -> None:
    command = command_line(nightly(program=None), "2026-11-21")
    assert command[-4:] == ["refresh", str(nightly().config), "--date", "2026-11-21"]
    shown = subprocess.run([*command[:-3], "--help"], capture_output=True, text=True, check=False)
    assert shown.returncode == 0 and "--date" in shown.stdout, shown.stderr
