"""Times at changes of the clocks, to the instant, and what cannot be a schedule."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rayflow.errors import ConfigError
from rayflow.schedule.times import Times
from tests.schedule.conftest import at

BERLIN = "Europe/Berlin"


def between(cron: str, zone: str, since: str, until: str) -> list[str]:
    return [f"{t:%Y-%m-%dT%H:%M}" for t in Times(cron, zone).between(at(since), at(until))]


def test_a_time_that_the_clock_skips_comes_at_the_end_of_the_gap() -> None:
    """In Berlin 2026-03-29 the clock goes from 02:00 to 03:00, at 01:00 UTC."""
    found = between("30 2 * * *", BERLIN, "2026-03-28T00:00", "2026-03-30T12:00")
    assert found == ["2026-03-28T01:30", "2026-03-29T01:00", "2026-03-30T00:30"]


def test_a_time_that_the_clock_shows_twice_comes_the_first_time_only() -> None:
    """In Berlin 2026-10-25 the clock goes from 03:00 back to 02:00, at 01:00 UTC."""
    found = between("30 2 * * *", BERLIN, "2026-10-24T00:00", "2026-10-26T12:00")
    assert found == ["2026-10-24T00:30", "2026-10-25T00:30", "2026-10-26T01:30"]


def test_several_times_in_a_gap_are_one_instant_and_come_once() -> None:
    found = between("0,30 2,3 * * *", BERLIN, "2026-03-29T00:00", "2026-03-29T12:00")
    assert found == ["2026-03-29T01:00", "2026-03-29T01:30"]


def test_what_goes_by_elapsed_time_comes_in_both_passes_and_not_in_a_gap() -> None:
    assert between("*/30 2 * * *", BERLIN, "2026-10-25T00:00", "2026-10-25T12:00") == [
        "2026-10-25T00:30",
        "2026-10-25T01:00",
        "2026-10-25T01:30",
    ]
    assert between("*/30 2 * * *", BERLIN, "2026-03-29T00:00", "2026-03-29T12:00") == []
    assert len(between("0 * * * *", BERLIN, "2026-03-28T22:30", "2026-03-29T21:30")) == 23
    assert len(between("0 * * * *", BERLIN, "2026-10-24T21:30", "2026-10-25T22:30")) == 25


def test_a_change_of_half_an_hour() -> None:
    """On Lord Howe 2026-04-05 the clock goes from 02:00 back to 01:30, at 15:00 UTC of the day before."""
    found = between("45 1 * * *", "Australia/Lord_Howe", "2026-04-03T20:00", "2026-04-05T20:00")
    assert found == ["2026-04-04T14:45", "2026-04-05T15:15"]


def test_from_within_the_second_pass_the_first_is_not_taken_for_the_next() -> None:
    assert Times("45 2 * * *", BERLIN).after(at("2026-10-25T01:30")) == at("2026-10-26T01:45")


def test_weekday_1_is_monday_and_0_and_7_are_sunday() -> None:
    monday, sunday = at("2026-11-23T02:00"), at("2026-11-22T02:00")
    assert Times("0 2 * * 1", "UTC").after(at("2026-11-21T00:00")) == monday
    assert Times("0 2 * * 0", "UTC").after(at("2026-11-21T00:00")) == sunday
    assert Times("0 2 * * 7", "UTC").after(at("2026-11-21T00:00")) == sunday


def test_the_day_is_that_of_the_zone() -> None:
    assert Times("30 0 * * *", BERLIN).date(at("2026-07-01T22:30")) == "2026-07-02"
    assert Times("0 22 * * *", "America/Los_Angeles").date(at("2026-07-02T05:00")) == "2026-07-01"


ZONES = [
    "UTC",
    BERLIN,
    "America/New_York",
    "Australia/Lord_Howe",
    "Africa/Cairo",
    "Asia/Kathmandu",
    "America/Havana",
]


@settings(max_examples=60, deadline=None)
@given(
    zone=st.sampled_from(ZONES),
    hour=st.integers(0, 23),
    minute=st.integers(0, 59),
    first=st.dates(date(2023, 1, 1), date(2030, 1, 1)),
)
def test_a_time_of_day_comes_once_on_every_day_of_every_zone(
    zone: str, hour: int, minute: int, first: date
) -> None:
    times = Times(f"{minute} {hour} * * *", zone)
    since = datetime(first.year, first.month, first.day, tzinfo=times.zone).astimezone(UTC) - timedelta(
        seconds=1
    )
    found = list(times.between(since, since + timedelta(days=200)))
    days = [times.date(t) for t in found]
    assert days == [(first + timedelta(days=i)).isoformat() for i in range(len(days))] and len(days) >= 199
    regular = [t for t in found if (times.local(t).hour, times.local(t).minute) == (hour, minute)]
    assert len(found) - len(regular) <= 1  # at most one of 200 days has a gap there


@settings(max_examples=60, deadline=None)
@given(
    cron=st.sampled_from(
        ["* * * * *", "*/7 * * * *", "15 */5 * * *", "30 2 * * *", "0 0 1 * *", "0 0 29 2 *"]
    ),
    zone=st.sampled_from(ZONES),
    since=st.datetimes(datetime(2020, 1, 1), datetime(2027, 1, 1), timezones=st.just(UTC)),
    length=st.timedeltas(timedelta(0), timedelta(days=3)),
)
def test_the_latest_is_the_last_of_all(cron: str, zone: str, since: datetime, length: timedelta) -> None:
    times = Times(cron, zone)
    found = list(times.between(since, since + length))
    assert times.latest(since, since + length) == (found[-1] if found else None)
    assert found == sorted(set(found))


def test_what_starts_late_is_for_the_day_of_its_time() -> None:
    late = Times("0 22 * * *", BERLIN)
    assert late.latest_day(at("2026-11-20T20:59")) == "2026-11-19"
    assert late.latest_day(at("2026-11-20T21:00")) == late.latest_day(at("2026-11-21T12:00")) == "2026-11-20"


def test_a_clock_that_jumps_by_decades_is_not_walked_minute_by_minute() -> None:
    """60 years of minutes are 31 million; a second would not do for a hundredth of them."""
    assert Times("* * * * *", BERLIN).latest(at("2000-01-01T00:00"), at("2060-01-01T00:00")) == at(
        "2060-01-01T00:00"
    )
    assert Times("0 0 29 2 *", "UTC").latest(at("2000-01-01T00:00"), at("2027-01-01T00:00")) == at(
        "2024-02-29T00:00"
    )


@pytest.mark.parametrize(
    ("cron", "zone", "message"),
    [
        ("0 2 * *", "UTC", "five fields"),
        ("0 0 2 * * *", "UTC", "five fields"),
        ("@daily", "UTC", "five fields"),
        ("60 2 * * *", "UTC", "Bad minute"),
        ("0 24 * * *", "UTC", "Bad hour"),
        ("0 2 * * MOON", "UTC", "Bad day-of-week"),
        ("0 2 31 2 *", "UTC", "Bad day-of-month"),
        ("*/0 2 * * *", "UTC", "cannot be used"),
        ("L/2 2 * * *", "UTC", "cannot be used"),
        ("0 2 * * *", "Europe/Berln", "Did you mean 'Europe/Berlin'"),
        ("0 2 * * *", "Mars/Olympus", "no time zone"),
        ("0 2 * * *", "../etc/passwd", "no time zone"),
        ("0 2 * * *", "", "no time zone"),
        ("0 2 * * *", "Europe", "no time zone"),
    ],
)
def test_what_is_no_schedule_is_a_sentence(cron: str, zone: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        Times(cron, zone)
