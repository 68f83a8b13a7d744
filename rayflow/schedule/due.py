"""What is to be done now: the rules for missed times and for clocks that jump. Pure: no clock, no file."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import islice

from rayflow.schedule.records import Missed, Note
from rayflow.schedule.times import Times

GRACE = timedelta(seconds=60)
"""A start up to this late is on time."""
MAX_COUNT = 10_000
"""Missed times are counted up to here."""
_CLOCK_SLACK = timedelta(seconds=1)
"""A clock that is set back by less is corrected in silence."""


@dataclass(frozen=True)
class Decision:
    """What follows from the clock.

    Attributes:
        run: the time to run now; None for nothing.
        notes: for the history.
        cursor: the times up to here are dealt with.
    """

    run: datetime | None
    notes: tuple[Note, ...]
    cursor: datetime


def decide(
    times: Times,
    missed: Missed,
    cursor: datetime,
    now: datetime,
    claimed: Callable[[datetime], bool],
    busy_until: datetime | None = None,
) -> Decision:
    """Of the times since the cursor, run at most the latest; never one that was run before.

    A clock that was set back takes the cursor with it: a schedule must not stand still until a year that a
    broken clock once showed. The times that then come again are known by their claims.

    Args:
        times: of the schedule.
        missed: its policy.
        cursor: the times up to here are dealt with.
        now: the wall clock.
        claimed: whether a time has been run, or begun.
        busy_until: when the schedule's last run ended.
    """
    if now < cursor:
        notes = (Note("clock", now, cursor, 0),) if cursor - now > _CLOCK_SLACK else ()
        return Decision(None, notes, now)
    latest = times.latest(cursor, now)
    if latest is None:
        return Decision(None, (), cursor)
    on_time = now - latest <= GRACE
    run = latest if (missed == "run-once" or on_time) and not claimed(latest) else None
    passed = [t for t in islice(times.between(cursor, latest), MAX_COUNT) if t != run]
    again = [t for t in passed if claimed(t)]
    lost = [t for t in passed if not claimed(t)]
    during = [t for t in lost if busy_until is not None and t <= busy_until]
    down = lost[len(during) :]
    found = (("again", again), ("busy", during), ("down", down))
    notes = tuple(Note(kind, group[0], group[-1], len(group)) for kind, group in found if group)
    return Decision(run, notes, latest)
