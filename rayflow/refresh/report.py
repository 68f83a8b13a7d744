"""Fills the page of a refresh from its records."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from rayflow.config.refresh import RefreshConfig
from rayflow.pipeline.plan import Plan
from rayflow.pipeline.report import timing_of, title, versions
from rayflow.refresh.changes import NEW, PROMPT
from rayflow.refresh.folder import RefreshFolder, VersionRecord
from rayflow.refresh.gate import Z
from rayflow.refresh.judge import Findings
from rayflow.refresh.measure import Drawn
from rayflow.report.data import FailureCount
from rayflow.report.refresh import PastVersion, RefreshReport, write_refresh_report
from rayflow.report.values import Values

WHY = {NEW: "computed: new prompt", PROMPT: "computed: the prompt's target changed"}
PACKAGES = ("deltalake", "datasketch")


@dataclass(frozen=True)
class Made:
    """What a refresh made.

    Attributes:
        record: the version.
        found: what the gate saw.
        plan: the run that computed it; None if nothing had to be computed.
        failures: its failed prompts.
    """

    record: VersionRecord
    found: Findings
    plan: Plan | None
    failures: list[FailureCount]


def write_report(config: RefreshConfig, folder: RefreshFolder, made: Made, attempt: Path) -> Path:
    """Write the page into the attempt's folder, and into the refresh's as the last one; returns its path."""
    data = collect(config, folder, made)
    write_refresh_report(data, attempt)
    return write_refresh_report(data, folder.root)


def collect(config: RefreshConfig, folder: RefreshFolder, made: Made) -> RefreshReport:
    """Everything that the page shows."""
    record, promoted = made.record, folder.promoted()
    done = [] if made.plan is None else [a for a in made.plan.artifacts.values() if a.committed]
    return RefreshReport(
        name=config.name,
        date=record.date,
        created=datetime.fromtimestamp(record.created, tz=UTC),
        version=record.version,
        promoted=record.version in promoted,
        latest=folder.latest,
        baseline=record.baseline,
        policy=record.recipe["policy"],
        reward=title(config.reward) if config.reward else "none",
        outcome=outcome(record.counts),
        checks=made.found.verdicts,
        rewards=_shown(made.found.rewards),
        tokens=_shown(made.found.tokens),
        history=tuple(past(each, each.version in promoted) for each in folder.records()),
        failures=tuple(made.failures),
        timings=tuple(timing_of(artifact) for artifact in done),
        config_yaml=config.to_yaml(),
        versions=versions(PACKAGES),
    )


def outcome(counts: dict[str, Any]) -> tuple[tuple[str, int], ...]:
    """What became of prompts, in the order in which it is decided; nothing that did not happen."""
    lines = [("read from the data", counts["read"])]
    lines += [(f"dropped: {reason}", number) for reason, number in counts["dropped"].items()]
    lines += [
        ("carried over", counts["carried"]),
        ("brought back from the promoted version", counts["restored"]),
    ]
    lines += [
        (WHY.get(why, f"computed: the {why} changed"), number) for why, number in counts["todo"].items()
    ]
    lines += [("of those, failed", counts["failed"]), ("no longer in the data", counts["gone"])]
    return tuple((what, number) for what, number in lines if number or what == "read from the data")


def past(record: VersionRecord, promoted: bool) -> PastVersion:
    """A line of the history."""
    whole = record.measures["whole"]
    mean, error = whole["reward"]["value"], whole["reward"]["error"]
    ends = (None, None) if mean is None or error is None else (mean - Z * error, mean + Z * error)
    return PastVersion(
        version=record.version,
        date=record.date,
        rows=whole["rows"],
        pairs=whole["pairs"],
        computed=sum(record.counts["todo"].values()),
        failed=record.counts["failed"],
        reward=mean,
        reward_low=ends[0],
        reward_high=ends[1],
        promoted=promoted,
        readable=record.removed is None,
        reasons=tuple(record.reasons),
    )


def _shown(drawn: Drawn | None) -> tuple[Values | None, Values] | None:
    return None if drawn is None else (drawn.before, drawn.after)
