"""The rules for missed times and jumping clocks, alone: no instant twice, none lost."""

from __future__ import annotations

from datetime import datetime, timedelta

from hypothesis import given, settings
from hypothesis import strategies as st

from rayflow.schedule.due import GRACE, Decision, decide
from rayflow.schedule.records import Missed
from rayflow.schedule.times import Times
from tests.schedule.conftest import at

HOURLY = Times("0 * * * *", "UTC")
START = at("2026-10-24T12:30")


def notes(decision: Decision) -> list[tuple[str, datetime, datetime, int]]:
    return [(n.kind, n.first, n.last, n.count) for n in decision.notes]


def test_before_its_time_nothing_is_run() -> None:
    assert decide(HOURLY, "run-once", START, at("2026-10-24T12:59"), lambda _: False) == Decision(
        None, (), START
    )


def test_of_three_missed_times_the_latest_is_run_once() -> None:
    found = decide(HOURLY, "run-once", START, at("2026-10-24T15:40"), lambda _: False)
    assert found.run == found.cursor == at("2026-10-24T15:00")
    assert notes(found) == [("down", at("2026-10-24T13:00"), at("2026-10-24T14:00"), 2)]


def test_the_policy_skip_leaves_all_of_them_out() -> None:
    found = decide(HOURLY, "skip", START, at("2026-10-24T15:40"), lambda _: False)
    assert found.run is None and found.cursor == at("2026-10-24T15:00")
    assert notes(found) == [("down", at("2026-10-24T13:00"), at("2026-10-24T15:00"), 3)]


def test_a_start_within_the_grace_is_on_time_under_either_policy() -> None:
    for missed in ("skip", "run-once"):
        assert decide(HOURLY, missed, START, at("2026-10-24T13:00") + GRACE, lambda _: False).run == at(
            "2026-10-24T13:00"
        )


def test_times_that_passed_during_the_run_before_say_so() -> None:
    found = decide(HOURLY, "skip", START, at("2026-10-24T16:10"), lambda _: False, at("2026-10-24T14:30"))
    assert notes(found) == [
        ("busy", at("2026-10-24T13:00"), at("2026-10-24T14:00"), 2),
        ("down", at("2026-10-24T15:00"), at("2026-10-24T16:00"), 2),
    ]


def test_a_clock_set_back_takes_the_cursor_with_it_and_says_so() -> None:
    now = START - timedelta(hours=2)
    found = decide(HOURLY, "run-once", START, now, lambda _: False)
    assert found.run is None and found.cursor == now and notes(found) == [("clock", now, START, 0)]


def test_a_clock_corrected_by_milliseconds_is_no_news() -> None:
    found = decide(HOURLY, "run-once", START, START - timedelta(milliseconds=30), lambda _: False)
    assert found.notes == () and found.run is None


def test_a_time_that_comes_again_is_not_run_again() -> None:
    found = decide(HOURLY, "run-once", START, at("2026-10-24T13:00"), lambda t: t == at("2026-10-24T13:00"))
    assert found.run is None and notes(found) == [
        ("again", at("2026-10-24T13:00"), at("2026-10-24T13:00"), 1)
    ]


class Simulated:
    """A schedule that is looked at from time to time, by a clock that may jump."""

    def __init__(self, times: Times, missed: Missed) -> None:
        self.times, self.missed = times, missed
        self.now = self.cursor = START
        self.runs: list[datetime] = []
        self.missed_times = 0

    def look(self, passed: timedelta) -> None:
        self.now += passed
        decision = decide(self.times, self.missed, self.cursor, self.now, self.runs.__contains__)
        self.cursor = decision.cursor
        self.missed_times += sum(n.count for n in decision.notes if n.kind in ("down", "busy"))
        if decision.run:
            assert decision.run <= self.now
            self.runs.append(decision.run)


CRONS = st.sampled_from(["*/5 * * * *", "0 * * * *", "30 2 * * *", "15 1-3 * * *", "0 0 * * 1"])
ZONE = st.sampled_from(["UTC", "Europe/Berlin", "America/New_York", "Australia/Lord_Howe"])
FORWARD = st.one_of(
    st.timedeltas(timedelta(0), timedelta(minutes=2)), st.timedeltas(timedelta(0), timedelta(days=3))
)
ANY = st.one_of(FORWARD, st.timedeltas(-timedelta(days=2), timedelta(0)))


@settings(max_examples=150, deadline=None)
@given(cron=CRONS, zone=ZONE, steps=st.lists(ANY, max_size=25), missed=st.sampled_from(["run-once", "skip"]))
def test_whatever_the_clock_does_no_time_is_run_twice(
    cron: str, zone: str, steps: list[timedelta], missed: Missed
) -> None:
    simulated = Simulated(Times(cron, zone), missed)
    for step in steps:
        simulated.look(step)
        assert simulated.cursor <= simulated.now
    assert len(simulated.runs) == len(set(simulated.runs))


@settings(max_examples=60, deadline=None)
@given(cron=CRONS, zone=ZONE, steps=st.lists(FORWARD, max_size=8))
def test_under_run_once_no_time_is_lost(cron: str, zone: str, steps: list[timedelta]) -> None:
    """Every time is run, or is missed and made up for by a later one: nothing is left open at any look."""
    simulated = Simulated(Times(cron, zone), "run-once")
    passed: list[datetime] = []
    for step in steps:
        before = simulated.now
        simulated.look(step)
        passed += simulated.times.between(before, simulated.now)
        runs = set(simulated.runs)
        assert simulated.runs == [t for t in passed if t in runs]
        assert len(simulated.runs) + simulated.missed_times == len(passed)
        assert simulated.runs[-1:] == passed[-1:]


@settings(max_examples=30, deadline=None)
@given(
    cron=st.sampled_from(["30 2 * * *", "0 0 * * 1"]),
    zone=ZONE,
    steps=st.lists(ANY, max_size=8),
    missed=st.sampled_from(["run-once", "skip"]),
)
def test_after_a_clock_has_gone_wild_the_schedule_goes_on(
    cron: str, zone: str, steps: list[timedelta], missed: Missed
) -> None:
    """Also back from three years ahead: once the clock is right again, times that were not yet run are run on time."""
    simulated = Simulated(Times(cron, zone), missed)
    for step in [timedelta(days=365 * 3), *steps, -timedelta(days=365 * 3)]:
        simulated.look(step)
    coming = simulated.times.after(simulated.now)
    known = coming in simulated.runs
    simulated.look(coming - simulated.now)
    assert (simulated.runs[-1] == coming) or known
