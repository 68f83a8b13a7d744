"""A reward model's training as a page and as JSON."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rayflow import __version__
from rayflow.core.stats import excludes_half
from rayflow.report import reward_figures, words
from rayflow.report.data import FailureCount, StageTiming, TrainingSection
from rayflow.report.figures import training
from rayflow.report.remarks import FEW_PROMPTS
from rayflow.report.render import PAGE, SUMMARY, Card, render_template, replace_file, time_card
from rayflow.report.summary import strict, training_summary

if TYPE_CHECKING:
    from rayflow.evaluation.reward_quality import JudgedPairs, RewardQuality

SCHEMA_VERSION = 1
LENGTH_GAP = 0.1
"""Difference in accuracy between pairs whose better response is longer and shorter that the page remarks on."""


@dataclass(frozen=True, kw_only=True)
class RewardReport:
    """What the page shows; a part is None while its stage has not run.

    Attributes:
        name: the run's name.
        created: when the run started.
        kind: "classifier" or "ranker".
        model: what training started from.
        num_rows, num_pairs: preferences to train on.
        trained: the folder of the reward model.
        training: the curves.
        quality: on the held-out pairs.
        pairs: what the quality was computed from.
        failures, timings, config_yaml, versions: as in `ReportData`.
    """

    name: str
    created: datetime
    kind: str
    model: str
    num_rows: int | None = None
    num_pairs: int | None = None
    trained: str | None = None
    training: TrainingSection | None = None
    quality: RewardQuality | None = None
    pairs: JudgedPairs | None = None
    failures: tuple[FailureCount, ...] = ()
    timings: tuple[StageTiming, ...] = ()
    config_yaml: str | None = None
    versions: Mapping[str, str] = field(default_factory=dict)


def write_reward_report(data: RewardReport, folder: Path) -> Path:
    """Write `report.html` and `summary.json`, each whole or not at all; returns the page's path."""
    folder.mkdir(parents=True, exist_ok=True)
    numbers = json.dumps(content(data), indent=2, ensure_ascii=False, allow_nan=False)
    replace_file(folder / SUMMARY, numbers + "\n")
    replace_file(folder / PAGE, page(data))
    return folder / PAGE


def content(data: RewardReport) -> dict[str, Any]:
    """The content of `summary.json`. Keys are stable within a schema version; absent numbers are null.

    Returns:
        `schema_version`, `rayflow_version`, `name`, `created` (ISO 8601), `kind`, `model`, `trained`,
        `num_rows`, `num_pairs`; `evaluation`, the fields of `rayflow.evaluation.reward_quality.RewardQuality`,
        with `bins` as the reliability diagram's data; `training`, `failures`, `timings`, `total_seconds`,
        `versions` as in a run's summary, and `notes`.
    """
    names = ("name", "kind", "model", "trained", "num_rows", "num_pairs")
    return strict(
        {
            "schema_version": SCHEMA_VERSION,
            "rayflow_version": __version__,
            **{name: getattr(data, name) for name in names},
            "created": data.created.isoformat(timespec="seconds"),
            "evaluation": data.quality and asdict(data.quality),
            "training": data.training and training_summary(data.training),
            "failures": [asdict(failure) for failure in data.failures],
            "timings": [asdict(timing) for timing in data.timings],
            "total_seconds": sum(timing.seconds for timing in data.timings),
            "versions": dict(data.versions),
            "notes": notes(data),
        }
    )


def page(data: RewardReport) -> str:
    """The page as text: inline style and drawings, no script, nothing fetched from anywhere."""
    shown = data.quality is not None and data.pairs is not None
    return render_template(
        "reward.html.j2",
        data=data,
        created=data.created.strftime("%-d %B %Y, %H:%M %Z").strip(),
        lead=lead(data),
        cards=cards(data),
        notes=notes(data),
        quality_figures=reward_figures.quality(data.quality, data.pairs) if shown else [],
        training_figures=training(data.training, reward_figures.CURVES) if data.training else [],
        total_seconds=sum(timing.seconds for timing in data.timings),
    )


def lead(data: RewardReport) -> str:
    """The result in one or two sentences."""
    found = data.quality
    if found is None:
        return "The reward model has not been measured on held-out pairs yet."
    percent = words.percent
    result = (
        f"On {words.count(found.num_pairs, 'held-out pair')} of {words.count(found.num_prompts, 'prompt')} the "
        f"{data.kind} prefers the better response in {percent(found.accuracy)} of cases "
        f"({percent(found.confidence, 0)} interval {percent(found.low)} to {percent(found.high)})."
    )
    if not excludes_half(found.low, found.high, found.num_prompts, found.num_decided, found.confidence):
        return f"{result} That does not show that it has learned anything."
    points = f"{words.fixed(100 * found.calibration_error, 1)} percentage points"
    return f"{result} Its probabilities are off by {points} on average."


def cards(data: RewardReport) -> list[Card]:
    """The four headline numbers."""
    found = data.quality
    if found is None:
        return [
            Card("Accuracy"),
            Card("Calibration error"),
            Card("Longer is preferred"),
            time_card(data.timings),
        ]
    length, percent = found.length, words.percent
    return [
        Card(
            "Accuracy",
            percent(found.accuracy),
            detail=f"{percent(found.low)} – {percent(found.high)}, {percent(found.confidence, 0)} interval",
            interval=(found.low, found.accuracy, found.high),
        ),
        Card(
            "Calibration error",
            percent(found.calibration_error),
            detail=f"expected, {len(found.bins)} bins; log loss {words.number(found.log_loss)} nats, "
            "a coin's is 0.693",
        ),
        Card(
            "Longer is preferred",
            percent(length.longer_preferred),
            detail=f"by the model; {percent(length.longer_chosen)} of the labels prefer the longer",
        ),
        time_card(data.timings),
    ]


def notes(data: RewardReport) -> list[str]:
    """What a reader must know before quoting the numbers."""
    found = data.quality
    if found is None:
        return []
    percent, length, remarks = words.percent, found.length, []
    gap = length.accuracy_longer - length.accuracy_shorter
    if abs(gap) > LENGTH_GAP:
        remarks.append(
            f"Length: it is right on {percent(length.accuracy_longer)} of the pairs whose better response is the "
            f"longer one, and on {percent(length.accuracy_shorter)} of those whose better response is the shorter "
            "one. A policy that is trained on it can learn that too."
        )
    remarks.append(
        f"The interval is a {percent(found.confidence, 0)} percentile bootstrap over prompts "
        f"({found.num_resamples:,} resamples): it covers the choice of held-out prompts, not another training run. "
        "They come from the same source as the training pairs unless the configuration names another one, so "
        "it says nothing about responses of another policy."
    )
    remarks.append(
        "The calibration error grows where bins hold few pairs: noise alone makes prediction and truth differ."
    )
    if found.num_prompts < FEW_PROMPTS:
        remarks.append(
            f"With {words.count(found.num_prompts, 'prompt')} the interval is too narrow; use at least "
            f"{FEW_PROMPTS} held-out prompts, better several hundred."
        )
    lost = sum(failure.lost for failure in data.failures)
    if lost:
        remarks.append(
            f"{words.count(lost, 'row')} left out, for the reasons that are listed under Failures."
        )
    return remarks
