"""What a server, or a call by hand, takes from the ledger to start: an unfinished run first, else a time that is due.

Called under the schedule's lock. So a run that the ledger calls running is not: whoever ran it is gone.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from pathlib import Path

from rayflow.schedule.due import decide
from rayflow.schedule.ledger import Ledger
from rayflow.schedule.records import BUSY, Run, Schedule

MAX_LOST = 3
"""An attempt that vanishes so often takes the machine's memory, or the machine, with it."""
EXIT_LOST = 137
"""What is recorded then: 128 and SIGKILL's number."""


BUSY_WAIT = timedelta(minutes=10)
"""Between two tries of a run that found another process at it."""


def take(ledger: Ledger, name: str, now: datetime) -> tuple[Run | None, list[Path]]:
    """The run to start now, begun in the ledger; and logs that are no longer kept.

    Args:
        ledger: whose lock for this schedule the caller holds.
        name: of the schedule.
        now: the wall clock, UTC.
    """
    with ledger.transaction():
        schedule = ledger.find(name)  # anew: it may have been changed or removed
        if schedule is None or schedule.paused:
            return None, []
        return resume(ledger, name, now) or _due(ledger, schedule, now), ledger.prune(schedule)


def resume(ledger: Ledger, name: str, now: datetime) -> Run | None:
    """The unfinished run, with one attempt more; None if there is none, or it was lost too often or just busy."""
    run = ledger.unfinished(name)
    if run is None or _was_just_busy(run, now):
        return None
    lost = run.lost + (run.state == "running")
    if lost >= MAX_LOST:
        code = EXIT_LOST if run.exit_code is None else run.exit_code
        ledger.set_run(run.id, state="done", lost=lost, finished=now, exit_code=code)
        return None
    ledger.set_run(
        run.id,
        state="running",
        lost=lost,
        attempts=run.attempts + 1,
        started=now,
        finished=None,
        exit_code=None,
        pid=None,
    )
    return ledger.run(run.id)


def _was_just_busy(run: Run, now: datetime) -> bool:
    """Whether it is too early to ask again. A clock that was set back does not make it longer."""
    if run.state != "interrupted" or run.exit_code != BUSY or run.finished is None:
        return False
    return abs(now - run.finished) < BUSY_WAIT


def _due(ledger: Ledger, schedule: Schedule, now: datetime) -> Run | None:
    last = ledger.last_run(schedule.name)
    decision = decide(
        schedule.times,
        schedule.missed,
        schedule.cursor,
        now,
        lambda time: ledger.is_claimed(schedule.name, time),
        last.finished if last else None,
    )
    for note in decision.notes:
        ledger.note(schedule.name, note)
    if decision.cursor != schedule.cursor:
        ledger.update(schedule.name, cursor=decision.cursor)
    if decision.run is None:
        return None
    return ledger.claim(schedule, decision.run, schedule.times.date(decision.run), now)
