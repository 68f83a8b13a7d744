"""An evaluation as a page and as JSON."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from rayflow import __version__
from rayflow.core.stats import excludes_half
from rayflow.report import evaluation_figures, words
from rayflow.report.data import FailureCount, SamplesSection, StageTiming
from rayflow.report.evaluation_notes import notes
from rayflow.report.render import PAGE, SUMMARY, Card, render_template, replace_file, time_card
from rayflow.report.summary import strict

if TYPE_CHECKING:
    from rayflow.evaluation.divergence import Divergence
    from rayflow.evaluation.measures import Measures
    from rayflow.evaluation.side_by_side import SideBySide

SCHEMA_VERSION = 1


@dataclass(frozen=True)
class Sides:
    """One number per response of each side, [responses] each."""

    policy: np.ndarray
    baseline: np.ndarray


@dataclass(frozen=True, kw_only=True)
class EvaluationReport:
    """What the page shows; a part is None, or empty, while its stage has not run or where it was not asked for.

    Attributes:
        name: the evaluation's name.
        created: when it started.
        policy, baseline, sft: what is compared, and what the divergence is measured from, as a reader calls them.
        prompts: where the prompts come from.
        sampling: how both sides answer.
        rewards: what each reward is, by its name.
        judge: what compares side by side; "" for none.
        measures: the numbers; None while they are not there.
        values: rewards of both sides, by the reward's name.
        lengths: tokens of both sides.
        policy_cut, baseline_cut: shares of the responses that were cut at max_tokens; None where that is not told.
        log_ratios: [responses] log(policy / SFT) of the policy's own samples, nats.
        samples: responses side by side, with the first reward.
        failures, timings, config_yaml, versions: as in `ReportData`.
    """

    name: str
    created: datetime
    policy: str
    baseline: str
    sft: str
    prompts: str
    sampling: str
    rewards: Mapping[str, str]
    judge: str = ""
    measures: Measures | None = None
    values: Mapping[str, Sides] = field(default_factory=dict)
    lengths: Sides | None = None
    policy_cut: float | None = None
    baseline_cut: float | None = None
    log_ratios: np.ndarray | None = None
    samples: SamplesSection | None = None
    failures: tuple[FailureCount, ...] = ()
    timings: tuple[StageTiming, ...] = ()
    config_yaml: str | None = None
    versions: Mapping[str, str] = field(default_factory=dict)


def write_evaluation(data: EvaluationReport, folder: Path) -> Path:
    """Write `report.html` and `summary.json`, each whole or not at all; returns the page's path."""
    folder.mkdir(parents=True, exist_ok=True)
    numbers = json.dumps(content(data), indent=2, ensure_ascii=False, allow_nan=False)
    replace_file(folder / SUMMARY, numbers + "\n")
    replace_file(folder / PAGE, page(data))
    return folder / PAGE


def content(data: EvaluationReport) -> dict[str, Any]:
    """The content of `summary.json`. Keys are stable within a schema version; absent numbers are null.

    Returns:
        `schema_version`, `rayflow_version`, `name`, `created` (ISO 8601), `policy`, `baseline`, `sft`, `prompts`,
        `sampling`, `reward_titles`, `judge`, `policy_cut` and `baseline_cut` (shares of the responses that were cut at
        max_tokens; null for given ones); of `rayflow.evaluation.measures.Measures` the fields `rewards`,
        `diversity`, `kl` and `side_by_side`; `failures`, `timings`, `total_seconds`, `versions` as in a run's summary,
        and `notes`.
    """
    names = (
        "name",
        "policy",
        "baseline",
        "sft",
        "prompts",
        "sampling",
        "judge",
        "policy_cut",
        "baseline_cut",
    )
    found = asdict(data.measures) if data.measures else dict.fromkeys(("rewards", "diversity", "kl"))
    return strict(
        {
            "schema_version": SCHEMA_VERSION,
            "rayflow_version": __version__,
            **{name: getattr(data, name) for name in names},
            "created": data.created.isoformat(timespec="seconds"),
            "reward_titles": dict(data.rewards),
            "side_by_side": None,
            **found,
            "failures": [asdict(failure) for failure in data.failures],
            "timings": [asdict(timing) for timing in data.timings],
            "total_seconds": sum(timing.seconds for timing in data.timings),
            "versions": dict(data.versions),
            "notes": notes(data),
        }
    )


def page(data: EvaluationReport) -> str:
    """The page as text: inline style and drawings, no script, nothing fetched from anywhere."""
    return render_template(
        "evaluation.html.j2",
        data=data,
        created=data.created.strftime("%-d %B %Y, %H:%M %Z").strip(),
        lead=lead(data),
        cards=cards(data),
        notes=notes(data),
        figures=evaluation_figures.responses(data),
        kl_figures=evaluation_figures.divergence(data),
        total_seconds=sum(timing.seconds for timing in data.timings),
    )


def lead(data: EvaluationReport) -> str:
    """The result in one or two sentences."""
    found = data.measures
    if found is None:
        return "The two sides have not been compared yet."
    percent = words.percent
    if found.rewards:
        name, first = next(iter(found.rewards.items()))
        won, what = first.win_rate, f"of comparisons with {words.the(data.baseline)} by the reward '{name}'"
        prompts, confidence = won.num_prompts, won.confidence
    else:
        judged = found.side_by_side
        assert judged is not None
        won, what = judged.chosen, f"against {words.the(data.baseline)} by the judge, ties half"
        prompts, confidence = judged.num_prompts, judged.confidence
    result = (
        f"On {words.count(prompts, 'prompt')} {words.the(data.policy)} wins {percent(won.win_rate)} {what} "
        f"({percent(confidence, 0)} interval {percent(won.low)} to {percent(won.high)})."
    )
    if excludes_half(won.low, won.high, prompts, won.num_decided, confidence):
        side, verdict = ("above", "better") if won.win_rate > 0.5 else ("below", "worse")
        return f"{result} The whole interval lies {side} 50%: by this judge it is {verdict}."
    return f"{result} That does not settle which of the two is better."


def cards(data: EvaluationReport) -> list[Card]:
    """The four headline numbers."""
    found = data.measures
    if found is None:
        titles = ("Win rate", "At equal length", "KL from the SFT policy")
        return [*(Card(title) for title in titles), time_card(data.timings)]
    made = []
    for name, measure in list(found.rewards.items())[:1]:
        won, level = measure.win_rate, measure.length_controlled
        made.append(_share_card(f"Win rate, {name}", (won.low, won.win_rate, won.high), won.confidence))
        made.append(_share_card("At equal length", (level.low, level.win_rate, level.high), level.confidence))
    if found.side_by_side is not None:
        made.append(_judge_card(found.side_by_side))
    if found.kl is not None:
        made.append(_kl_card(found.kl))
    return [*made[:3], time_card(data.timings)] if len(made) < 4 else made


def _share_card(title: str, shares: tuple[float, float, float], confidence: float) -> Card:
    low, rate, high = shares
    if not np.isfinite(rate):
        return Card(title, words.NONE, detail="lengths differ too evenly to tell")
    detail = f"{words.percent(low)} – {words.percent(high)}, {words.percent(confidence, 0)} interval"
    return Card(title, words.percent(rate), detail=detail, interval=shares)


def _judge_card(judged: SideBySide) -> Card:
    shares, percent = judged.chosen, words.percent
    split = f"win {percent(shares.win)}, tie {percent(shares.tie)}, loss {percent(shares.loss)}"
    return Card(
        "Judge's win rate",
        percent(shares.win_rate),
        detail=split,
        interval=(shares.low, shares.win_rate, shares.high),
    )


def _kl_card(kl: Divergence) -> Card:
    number = words.number
    return Card(
        "KL from the SFT policy",
        f"{number(kl.nats)} nats",
        detail=f"per response, {number(kl.low)} – {number(kl.high)}; {number(kl.nats_per_token)} per token",
    )
