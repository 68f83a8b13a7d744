"""A refresh from beginning to end: plan, compute, write, judge, promote, clean up. Safe to kill and to repeat."""

from __future__ import annotations

import time
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

from rich.console import Console

from rayflow.config.refresh import RefreshConfig
from rayflow.core.signals import stoppable
from rayflow.pipeline.commands import make_runner
from rayflow.pipeline.execute import Pipeline
from rayflow.pipeline.plan import Plan, amended
from rayflow.pipeline.preflight import preflight
from rayflow.pipeline.report import failures_of
from rayflow.pipeline.run_plan import build_run_plan
from rayflow.refresh.attempt import Attempt, begin
from rayflow.refresh.changes import Base, rows_of
from rayflow.refresh.folder import RefreshFolder, VersionRecord
from rayflow.refresh.judge import Findings, Tried, examine
from rayflow.refresh.lease import Lease
from rayflow.refresh.recipe import check_rows, data_plan, settings_of
from rayflow.refresh.report import Made, write_report
from rayflow.refresh.retention import clean
from rayflow.refresh.rows import new_rows
from rayflow.refresh.table import PreferenceTable
from rayflow.report import words
from rayflow.report.data import FailureCount
from rayflow.sources.read import DROPPED


@dataclass(frozen=True)
class Outcome:
    """How a refresh ended.

    Attributes:
        promoted: whether readers have the day's version.
        version: its number.
        already: whether that was so before.
        unchanged: whether the table was up to date without a new version.
        reasons: why it was held back.
        report: the page; None if nothing was done.
    """

    promoted: bool
    version: int
    already: bool = False
    unchanged: bool = False
    reasons: tuple[str, ...] = ()
    report: Path | None = None


class Refresh:
    """One refresh.

    Args:
        config: what was asked for.
        date: the day it is made for, ISO.
        console: for the person who waits.
    """

    def __init__(self, config: RefreshConfig, date: str, console: Console) -> None:
        self._config = config
        self._date = date
        self._console = console
        self.folder = RefreshFolder(config.root)
        self.table = PreferenceTable(self.folder.table)

    def run(self) -> Outcome:
        """Bring the day to its committed state.

        Raises:
            BusyError: somebody else is at it.
            LeaseError: somebody else took over.
            RayflowError: see the stages; running again goes on from there.
            Terminated: SIGTERM; the lease is given back and scratch space removed.
        """
        with stoppable():
            return self._run()

    def _run(self) -> Outcome:
        if (version := self.folder.day(self._date)) is not None:
            return Outcome(True, version, already=True)
        whole = build_run_plan(self._config)
        preflight(whole)
        settings = settings_of(whole)
        self.folder.create(self._config.name)
        lease = Lease(self.folder.lease, self._config.refresh.lease_seconds)
        with lease.held(self._date, self._console.print):
            if (version := self.folder.day(self._date)) is not None:  # just before the lease was taken
                return Outcome(True, version, already=True)
            self.table.create()
            attempt, told = begin(self.folder.attempts, self._date, self.base(), settings, self._config)
            for text in filter(None, (told, sentence(attempt.counts))):
                self._console.print(text, highlight=False)
            outcome = self._finish(attempt, lease)
            self._clean()
            return outcome

    def base(self) -> Base:
        """What the table has."""
        head = self.table.head if self.table.exists else None
        maker = None if head is None else self._maker(head)
        return Base(self.table, head, self.folder.latest, maker and maker.todo)

    def _maker(self, version: int) -> Attempt | None:
        """The attempt that wrote a version; None of the empty one."""
        name = self.table.attempt_of(version)
        return None if name is None else Attempt(self.folder.attempts / name)

    def _finish(self, attempt: Attempt, lease: Lease) -> Outcome:
        """Compute, write, judge, promote: whatever of it has not been done yet."""
        plan = data_plan(self._config, attempt.run, attempt.todo) if attempt.num_todo else None
        written = self.table.written(attempt.name)
        if written is None and attempt.changes_nothing:
            written = self.table.head
        elif written is None:
            written = self._write(attempt, plan, lease)
        before = self.folder.promoted()
        if attempt.changes_nothing and written in before:
            self.folder.finish_day(self._date, written)
            attempt.finish({"version": written, "passed": True})
            return Outcome(True, written, unchanged=True)
        failures = failures_in(plan)
        baseline = max((v for v in before if v < written), default=None)
        found = examine(
            self.table,
            written,
            None if baseline is None else self.folder.record(baseline),
            self._config.gate,
            self._tried(attempt, written),
        )
        record = self._record(attempt, written, found)
        self.folder.write_record(record)
        promoted = record.passed or written in before
        if promoted:
            lease.check()
            self.folder.promote(written, by="gate")
        page = write_report(self._config, self.folder, Made(record, found, plan, failures), attempt.folder)
        attempt.finish({"version": written, "passed": promoted})
        if promoted:
            self.folder.finish_day(self._date, written)
        return Outcome(promoted, written, reasons=tuple(record.reasons), report=page)

    def _write(self, attempt: Attempt, plan: Plan | None, lease: Lease) -> int:
        """Compute what is to do and make a version of it; returns its number."""
        rows = iter(())
        if plan is not None:
            Pipeline(plan, make_runner(plan.config), self._console).run()
            check_rows(plan.artifacts["prompts"].manifest().num_rows, attempt.num_todo)
            rows = new_rows(plan.artifacts, attempt.contents(), attempt.recipe, self._date, attempt.name)
        restored = attempt.restored()
        if restored:
            rows = chain(rows_of(self.table, self.folder.latest, restored), rows)
        lease.check()
        return self.table.replace(set(attempt.carried()), rows, attempt.name)

    def _tried(self, attempt: Attempt, version: int) -> Tried:
        """What the version should have, and how much of that could not be computed.

        Counted by its rows: the run that computed them may be gone. With `missing: keep` a version that is looked at
        once more lacks what its own refresh could not compute. With `drop` it lacks nothing: what the data still has
        would have been tried again.
        """
        wanted = attempt.num_wanted
        if attempt.changes_nothing and self._config.refresh.missing == "keep":
            maker = self._maker(version)
            wanted = maker.num_wanted if maker is not None and maker.plan is not None else wanted
        return Tried(wanted, wanted - self.table.num_rows(version), attempt.recipe.reward)

    def _record(self, attempt: Attempt, version: int, found: Findings) -> VersionRecord:
        """What is to be known of the version. One that is judged a second time keeps its origin."""
        known = next((each for each in self.folder.records() if each.version == version), None)
        fresh = known is None or known.attempt == attempt.name
        return VersionRecord(
            version=version,
            date=self._date if fresh else known.date,
            attempt=attempt.name if fresh else known.attempt,
            created=time.time() if fresh else known.created,
            recipe=attempt.recipe.to_dict(),
            settings=attempt.settings,
            counts={**attempt.counts, "failed": found.evidence.failed} if fresh else known.counts,
            measures=found.measures(),
            verdicts=[verdict.to_dict() for verdict in found.verdicts],
            baseline=found.evidence.version,
            passed=found.passed,
        )

    def _clean(self) -> None:
        removed = clean(self.folder, self.table, self._config.refresh.retention)
        if removed:
            self._console.print(f"Retention removed the data of {words.count(len(removed), 'old version')}.")


def failures_in(plan: Plan | None) -> list[FailureCount]:
    """Prompts that could not be computed, by stage and reason."""
    if plan is None:
        return []
    # A prompt that fails in a stage that amends another one keeps what it had: it is not missing.
    names = [name for name, stage in plan.stages.items() if amended(stage) is None]
    found = [each for name in names for each in failures_of(name, plan.artifacts[name])]
    return [each for each in found if each.reason not in DROPPED]


def sentence(counts: dict[str, Any]) -> str:
    """What a refresh is about to do, in words."""
    todo = sum(counts["todo"].values())
    why = ", ".join(f"{how_many:,} {reason}" for reason, how_many in counts["todo"].items())
    dropped = sum(counts["dropped"].values())
    parts = [f"{words.count(todo, 'prompt')} to compute" + (f" ({why})" if why else "")]
    parts.append(f"{counts['carried'] + counts['restored']:,} carried over")
    parts += [f"{dropped:,} dropped"] if dropped else []
    parts += [f"{counts['gone']:,} gone"] if counts["gone"] else []
    return "; ".join(parts) + "."
