"""A refresh of the preference table as a page and as JSON."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rayflow import __version__
from rayflow.report import refresh_figures, words
from rayflow.report.data import FailureCount, StageTiming
from rayflow.report.render import PAGE, SUMMARY, Card, render_template, replace_file, time_card
from rayflow.report.summary import strict
from rayflow.report.values import Values

if TYPE_CHECKING:
    from rayflow.refresh.gate import Verdict

SCHEMA_VERSION = 1


@dataclass(frozen=True, kw_only=True)
class PastVersion:
    """One version in the history.

    Attributes:
        version, date: which, and the day it was made for.
        rows, pairs: in it.
        computed, failed: prompts that its refresh computed, and those of them that failed.
        reward, reward_low, reward_high: mean reward with its 95% interval; None where unknown.
        promoted: whether readers have had it.
        readable: whether its data is still there.
        reasons: why it was held back.
    """

    version: int
    date: str
    rows: int
    pairs: int
    computed: int
    failed: int
    reward: float | None
    reward_low: float | None
    reward_high: float | None
    promoted: bool
    readable: bool
    reasons: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class RefreshReport:
    """What the page shows.

    Attributes:
        name, date: the refresh and the day it was made for.
        created: when.
        version: of the table.
        promoted: whether readers have it.
        latest: the version that they have; None before the first.
        baseline: the version it was compared with; None for the first.
        policy, reward: model and reward.
        outcome: (what became of prompts, how many), in order.
        checks: the gate's.
        rewards, tokens: (baseline or None, this version) distributions; None of an empty table.
        history: every version, oldest first.
        failures, timings, config_yaml, versions: as in `ReportData`.
    """

    name: str
    date: str
    created: datetime
    version: int
    promoted: bool
    latest: int | None
    baseline: int | None
    policy: str
    reward: str
    outcome: tuple[tuple[str, int], ...]
    checks: tuple[Verdict, ...]
    rewards: tuple[Values | None, Values] | None = None
    tokens: tuple[Values | None, Values] | None = None
    history: tuple[PastVersion, ...] = ()
    failures: tuple[FailureCount, ...] = ()
    timings: tuple[StageTiming, ...] = ()
    config_yaml: str | None = None
    versions: Mapping[str, str] = field(default_factory=dict)

    @property
    def reasons(self) -> tuple[str, ...]:
        """Why it was held back."""
        return tuple(check.reason for check in self.checks if not check.passed)

    @property
    def current(self) -> PastVersion:
        """This version's own line of the history."""
        return next(each for each in self.history if each.version == self.version)


def write_refresh_report(data: RefreshReport, folder: Path) -> Path:
    """Write `report.html` and `summary.json`, each whole or not at all; returns the page's path."""
    folder.mkdir(parents=True, exist_ok=True)
    numbers = json.dumps(content(data), indent=2, ensure_ascii=False, allow_nan=False)
    replace_file(folder / SUMMARY, numbers + "\n")
    replace_file(folder / PAGE, page(data))
    return folder / PAGE


def content(data: RefreshReport) -> dict[str, Any]:
    """The content of `summary.json`. Keys are stable within a schema version; absent numbers are null.

    Returns:
        `schema_version`, `rayflow_version`, the fields of `RefreshReport` but the distributions (`created` in ISO
        8601, `outcome` as a mapping), and `reasons`.
    """
    left_out = {"rewards", "tokens", "config_yaml"}
    fields = {name: value for name, value in asdict(data).items() if name not in left_out}
    return strict(
        {
            "schema_version": SCHEMA_VERSION,
            "rayflow_version": __version__,
            **fields,
            "created": data.created.isoformat(timespec="seconds"),
            "outcome": dict(data.outcome),
            "versions": dict(data.versions),
            "reasons": list(data.reasons),
        }
    )


def page(data: RefreshReport) -> str:
    """The page as text: inline style and drawings, no script, nothing fetched from anywhere."""
    return render_template(
        "refresh.html.j2",
        data=data,
        created=data.created.strftime("%-d %B %Y, %H:%M %Z").strip(),
        lead=lead(data),
        cards=cards(data),
        notes=(),
        figures=refresh_figures.distributions(data),
        history_figures=refresh_figures.history(data.history, data.latest),
        past=list(reversed(data.history))[: refresh_figures.MAX_HISTORY],
        total_seconds=sum(timing.seconds for timing in data.timings),
    )


def lead(data: RefreshReport) -> str:
    """The result in one or two sentences."""
    rows = f"{words.count(data.current.rows, 'prompt')} and {words.count(data.current.pairs, 'pair')}"
    if data.promoted:
        return f"Version {data.version} with {rows} passed every check and is what readers get."
    stays = (
        "Readers have no version yet." if data.latest is None else f"Readers stay with version {data.latest}."
    )
    checks = words.count(len(data.reasons), "check")
    return f"Version {data.version} with {rows} was written but not promoted: {checks} failed. {stays}"


def cards(data: RefreshReport) -> list[Card]:
    """The four headline numbers."""
    now = data.current
    before = next((each for each in data.history if each.version == data.baseline), None)
    state = "promoted" if data.promoted else "held back"
    passed = sum(check.passed for check in data.checks)
    return [
        Card(
            "Prompts",
            f"{now.rows:,}",
            before=f"{before.rows:,}" if before else None,
            detail=f"{words.count(now.pairs, 'pair')}; {now.computed:,} computed by this refresh",
        ),
        Card(
            "Mean reward",
            words.reward(now.reward),
            before=words.reward(before.reward) if before else None,
            detail=f"version {before.version} → {now.version}" if before else "of all candidates",
        ),
        Card("Gate", f"{passed} of {len(data.checks)}", detail=f"checks passed; {state}"),
        time_card(data.timings),
    ]
