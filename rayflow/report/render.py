"""`ReportData` to two files: `report.html`, one self-contained page, and `summary.json`."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rayflow import __version__
from rayflow.report import figures, words
from rayflow.report.data import EvaluationSection, ReportData, StageTiming
from rayflow.report.summary import notes, summary
from rayflow.report.values import mean_of

PAGE, SUMMARY = "report.html", "summary.json"


@dataclass(frozen=True)
class Card:
    """One headline number.

    Attributes:
        title: what it is.
        value: the number; None shows that it is not there yet.
        before: an earlier value, shown before an arrow.
        detail: one line below.
        interval: (low, point, high) in [0, 1], drawn against 50%.
    """

    title: str
    value: str | None = None
    before: str | None = None
    detail: str = ""
    interval: tuple[float, float, float] | None = None


def write_report(data: ReportData, folder: Path | str) -> Path:
    """Write `report.html` and `summary.json`, each whole or not at all.

    Args:
        data: the run; missing sections are named in the report.
        folder: where the files go; made if needed.

    Returns:
        Path of the page.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    # allow_nan: a NaN would make the file unreadable for strict parsers, so it must not get this far.
    numbers = json.dumps(summary(data), indent=2, ensure_ascii=False, allow_nan=False)
    replace_file(folder / SUMMARY, numbers + "\n")
    replace_file(folder / PAGE, render(data))
    return folder / PAGE


def render(data: ReportData) -> str:
    """The page as text: inline style and drawings, no script, nothing fetched from anywhere."""
    return render_template(
        "template.html.j2",
        data=data,
        created=data.created.strftime("%-d %B %Y, %H:%M %Z").strip(),
        steps=[part.strip() for part in data.method.split(" x ")],
        lead=lead(data),
        cards=cards(data),
        notes=notes(data),
        judge=_judge(data.reward),
        figures={
            name: getattr(figures, name)(getattr(data, name)) if getattr(data, name) else []
            for name in ("evaluation", "selection", "pairing", "training")
        },
        total_seconds=sum(timing.seconds for timing in data.timings),
    )


def render_template(name: str, **values: Any) -> str:
    """One of this folder's templates with the page's style, filters and version at its disposal."""
    from jinja2 import Environment, PackageLoader, StrictUndefined
    from markupsafe import Markup, escape

    environment = Environment(
        loader=PackageLoader("rayflow.report", "."),
        autoescape=True,  # model output and prompts are text, never markup
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "percent": words.percent,
        "number": words.number,
        "reward": words.reward,
        "fixed": words.fixed,
        "duration": words.duration,
        "memory": words.memory,
        "first_upper": lambda text: text[:1].upper() + text[1:],
        "code": lambda text: Markup(re.sub("`([^`]+)`", r"<code>\1</code>", str(escape(text)))),
        "drawing": Markup,  # only for SVG, whose own text `svg` and `plots` escape
    }
    style = Path(__file__).with_name("style.css").read_text(encoding="utf-8")
    return environment.get_template(name).render(
        style=Markup(style), version=__version__, count=words.count, the=words.the, **values
    )


def lead(data: ReportData) -> str:
    """The result in one or two sentences."""
    section = data.evaluation
    if section is None:
        if data.training is None:
            return "Nothing has been trained yet."
        return "The trained model has not been compared with its baseline yet."
    percent = words.percent
    interval = f"{percent(section.confidence, 0)} interval {percent(section.low)} to {percent(section.high)}"
    seen = f" ({section.num_seen:,} of them trained on)" if section.num_seen else ""
    result = (
        f"On {words.count(section.num_prompts, f'{section.prompts_are} prompt')}{seen} the trained model wins "
        f"{percent(section.win_rate)} ({interval}) of comparisons with {_named(section)}."
    )
    if section.excludes_half:
        side, verdict = ("above", "better") if section.win_rate > 0.5 else ("below", "worse")
        return f"{result} The whole interval lies {side} 50%: by this reward it is {verdict}."
    return f"{result} That does not settle which of the two is better."


def _named(section: EvaluationSection) -> str:
    """The baseline within a sentence."""
    if section.baseline != "SFT model":
        return words.the(section.baseline)
    if section.is_start:
        return "the model it started from (SFT model)"
    return "the SFT model (which is not the one that training started from)"


def _judge(reward: str) -> str:
    """The reward within a sentence: a rule is called by its function."""
    rule = re.fullmatch(r"rule \(function ([^,\s]+)(?:, (.*))?\)", reward)
    if rule is None:
        return f"the reward {reward}"
    return f"the reward {rule[1]}" + (f" ({rule[2]})" if rule[2] else "")


def cards(data: ReportData) -> list[Card]:
    """The four headline numbers."""
    return [_win_card(data.evaluation), _reward_card(data), _selection_card(data), time_card(data.timings)]


def _win_card(section: EvaluationSection | None) -> Card:
    if section is None:
        return Card("Win rate")
    return Card(
        "Win rate",
        words.percent(section.win_rate),
        detail=f"{words.percent(section.low)} – {words.percent(section.high)}, "
        f"{words.percent(section.confidence, 0)} interval",
        interval=(section.low, section.win_rate, section.high),
    )


def _reward_card(data: ReportData) -> Card:
    if data.evaluation is not None:
        before, after = data.evaluation.baseline_reward, data.evaluation.policy_reward
        detail = f"{data.evaluation.prompts_are} prompts, before → after training"
    elif data.selection is not None and data.selection.scored:
        before, after = mean_of(data.selection.candidate_rewards), mean_of(data.selection.accepted_rewards)
        detail = "candidates → accepted"
    else:
        return Card("Mean reward")
    return Card("Mean reward", words.reward(after, before), before=words.reward(before, after), detail=detail)


def _selection_card(data: ReportData) -> Card:
    section = data.selection
    if section is None:
        return Card("Acceptance rate")
    candidates = section.candidates
    detail = f"{section.num_accepted:,} kept of {candidates:,} candidates"
    if section.acceptance_rates is None:
        share = section.num_accepted / candidates if candidates else None
        return Card("Candidates kept", words.percent(share), detail=detail)
    return Card(
        "Acceptance rate",
        words.percent(mean_of(section.acceptance_rates)),
        detail=f"of the candidates looked at; {detail.removesuffix(' candidates')}",
    )


def time_card(timings: Sequence[StageTiming]) -> Card:
    """Wall time of all stages, and which one took most of it."""
    if not timings:
        return Card("Wall time")
    slowest = max(timings, key=lambda timing: timing.seconds)
    total = sum(timing.seconds for timing in timings)
    share = words.percent(slowest.seconds / total, 0) if total else words.NONE
    return Card("Wall time", words.duration(total), detail=f"{share} of it in {slowest.stage}")


def replace_file(path: Path, text: str) -> None:
    """Write by rename. Lone surrogates, which models do emit, become character references."""
    part = path.with_name(path.name + ".part")
    part.write_bytes(text.encode("utf-8", "xmlcharrefreplace"))
    os.replace(part, path)
