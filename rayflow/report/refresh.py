"""A refresh of the preference table as a page and as JSON."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from rayflow import __version__
from rayflow.report import plane, words
from rayflow.report.data import FailureCount, StageTiming
from rayflow.report.figures import Figure, overlaid
from rayflow.report.plane import Mark
from rayflow.report.plots import Layer
from rayflow.report.render import PAGE, SUMMARY, Card, render_template, replace_file, time_card
from rayflow.report.summary import strict
from rayflow.report.svg import Frame, plain
from rayflow.report.values import Values

if TYPE_CHECKING:
    from rayflow.refresh.gate import Verdict

SCHEMA_VERSION = 1
MAX_HISTORY = 30
"""Versions that the page shows."""


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
        figures=distributions(data),
        history_figures=history(data.history, data.latest),
        past=list(reversed(data.history))[:MAX_HISTORY],
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


def distributions(data: RefreshReport) -> list[Figure]:
    """Rewards and lengths beside those of the last promoted version."""
    found: list[Figure] = []
    for values, title, axis, caption, options in (
        (
            data.rewards,
            "Rewards of the candidates",
            "reward",
            "Share of candidates in each reward bin. The gate compares the two distributions.",
            {},
        ),
        (
            data.tokens,
            "Lengths of the candidates",
            "tokens per response",
            "A peak at the right edge means responses cut at the token limit.",
            {"whole": True},
        ),
    ):
        if values is not None:
            layers = [Layer("after", f"version {data.version}", values[1])]
            if values[0] is not None:
                layers.insert(0, Layer("before", f"version {data.baseline}", values[0]))
            found += overlaid(title, layers, axis, caption, **options)
    return found


def history(versions: tuple[PastVersion, ...], latest: int | None) -> list[Figure]:
    """Mean reward and size of every version that is known."""
    shown = [each for each in versions if each.reward is not None][-MAX_HISTORY:]
    if len(shown) < 2:
        return []
    rewards = [(each.reward, each.reward_low, each.reward_high) for each in shown]
    rows = [(float(each.rows),) for each in shown]
    now = next((each for each in shown if each.version == latest), None)
    return [
        Figure(
            "Mean reward, version by version",
            _timeline(shown, rewards, "mean reward"),
            (
                ("after", "promoted", f"now {words.reward(now.reward)}" if now else words.NONE),
                ("rejected", "held back", str(sum(not each.promoted for each in shown))),
            ),
            "The band is the mean's 95% interval over prompts. Squares were held back: readers never saw them.",
        ),
        Figure(
            "Prompts, version by version",
            _timeline(shown, rows, "prompts", from_zero=True),
            (
                ("after", "promoted", f"now {now.rows:,}" if now else words.NONE),
                ("rejected", "held back", ""),
            ),
            "A sudden fall means that prompts vanished from the data, or failed.",
        ),
    ]


def _timeline(
    shown: list[PastVersion], values: list[tuple[float | None, ...]], name: str, *, from_zero: bool = False
) -> str:
    """Points over versions: promoted ones joined by a line, the others beside it."""
    known = [v for each in values for v in each if v is not None]
    low, high = (0.0, max(known)) if from_zero else (min(known), max(known))
    room = 0.08 * (high - low) or 0.5 * abs(high) or 0.5
    frame = Frame((-0.4, len(shown) - 0.6), (low if from_zero else low - room, high + room), 400.0, 210.0)
    step = max(1, len(shown) // 6)
    places = [float(i) for i in range(0, len(shown), step)]
    parts = [
        frame.axes(
            "version",
            x_ticks=places,
            x_words=lambda at: [str(shown[int(i)].version) for i in at],
            y_words=plain,
        )
    ]
    good = [(i, v) for i, v in enumerate(values) if shown[i].promoted and v[0] is not None]
    if len(good) > 1 and all(len(v) == 3 and None not in v for _, v in good):
        at = np.array([i for i, _ in good], float)
        parts.append(
            plane.band(frame, at.tolist(), [v[1] for _, v in good], [v[2] for _, v in good], "after")
        )
    parts.append(plane.line(frame, [(i, v[0]) for i, v in good], "after"))
    for promoted, style, shape in ((True, "after", "circle"), (False, "rejected", "square")):
        spots = [
            Mark(i, v[0], "", f"version {each.version}, {each.date}: {name} {words.number(v[0])}")
            for i, (each, v) in enumerate(zip(shown, values, strict=True))
            if each.promoted is promoted and v[0] is not None
        ]
        parts.append(plane.marks(frame, spots, style, shape))
    return frame.wrap("".join(parts), f"{name} of the table's versions")
