"""A diagnosis as a page, as JSON, and in words."""

from __future__ import annotations

import json
import math
import shlex
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rayflow import __version__
from rayflow.report import frontier, words
from rayflow.report.remarks import FEW_PROMPTS, LENGTH_WARNING
from rayflow.report.render import Card, render_template, replace_file
from rayflow.report.summary import strict

if TYPE_CHECKING:
    from rayflow.evaluation.diagnosis import Diagnosis

PAGE, NUMBERS = "diagnose.html", "diagnose.json"
SCHEMA_VERSION = 1
RANK_WARNING = 0.3
"""Rank correlation with length, within prompts, from which on the page says so."""


@dataclass(frozen=True, kw_only=True)
class Subject:
    """What was diagnosed.

    Attributes:
        name: the run's name.
        created: when the diagnosis was made.
        model: the SFT model.
        sampling: how its candidates were drawn, such as "64 candidates, temperature 0.7, top_k 40".
        reward: what scored them.
        folder: the run's, as a command names it.
    """

    name: str
    created: datetime
    model: str
    sampling: str
    reward: str
    folder: str = "RUN"


def write_diagnosis(found: Diagnosis, subject: Subject, folder: Path) -> Path:
    """Write `diagnose.html` and `diagnose.json`, each whole or not at all; returns the page's path."""
    folder.mkdir(parents=True, exist_ok=True)
    numbers = json.dumps(content(found, subject), indent=2, ensure_ascii=False, allow_nan=False)
    replace_file(folder / NUMBERS, numbers + "\n")
    replace_file(folder / PAGE, page(found, subject))
    return folder / PAGE


def content(found: Diagnosis, subject: Subject) -> dict[str, Any]:
    """The content of `diagnose.json`. Keys are stable within a schema version; absent numbers are null.

    Returns:
        `schema_version`, `rayflow_version`, the fields of `Subject` (`created` in ISO 8601), the fields of
        `rayflow.evaluation.diagnosis.Diagnosis` (intervals as `mean`, `low`, `high`; KL in nats; the `beta`
        of `sft`, which is infinite, as null), `max_kl` and `notes`.
    """
    return strict(
        {
            "schema_version": SCHEMA_VERSION,
            "rayflow_version": __version__,
            **asdict(subject),
            "created": subject.created.isoformat(timespec="seconds"),
            "max_kl": found.max_kl,
            **asdict(found),
            "notes": notes(found),
        }
    )


def page(found: Diagnosis, subject: Subject) -> str:
    """The page as text: inline style and drawings, no script, nothing fetched from anywhere."""
    return render_template(
        "diagnose.html.j2",
        found=found,
        subject=subject,
        created=subject.created.strftime("%-d %B %Y, %H:%M %Z").strip(),
        digits=digits(found),
        lead=lead(found),
        cards=cards(found),
        command=command(found, subject.folder),
        notes=notes(found),
        frontier=frontier.frontier(found),
        figures=[frontier.acceptance(found), frontier.divergence(found)],
    )


def digits(found: Diagnosis) -> int:
    """Decimals of rewards: three digits of the largest gain, so that the betas can be told apart."""
    gain = max(point.gain.mean for point in (*found.points, *found.best_of))
    return min(max(2 - math.floor(math.log10(gain)), 0), 6) if gain > 0 else 2


def lead(found: Diagnosis) -> str:
    """The recommendation in two sentences."""
    point, places = found.choice, digits(found)
    gain = point.gain
    before, after, mean, low, high = (
        words.fixed(value, places)
        for value in (found.sft.reward.mean, point.reward.mean, gain.mean, gain.low, gain.high)
    )
    return (
        f"With beta {point.beta:g} the target policy stays within {words.number(found.kl_budget)} nats of the "
        f"SFT policy (KL {words.number(point.kl.mean)}), and the mean reward goes from {before} to {after} "
        f"(gain {mean}, {_interval(found)} {low} to {high}). Rejection sampling is then expected "
        f"to accept {words.percent(point.acceptance.mean)} of the candidates in its first pass, and "
        f"{words.number(point.outcome.distinct.mean)} of {found.num_accepted} accepted responses are distinct."
    )


def command(found: Diagnosis, run: str) -> str:
    """What selects with the recommended beta, also in a run whose own rule has none, or does not take it (0)."""
    if found.own_beta is not None and (found.recommended > 0 or found.own_kind == "rejection"):
        number = "" if found.num_accepted == found.own_accepted else f" --num-accepted {found.num_accepted}"
        return f"rayflow select {shlex.quote(run)} --beta {found.recommended:g}{number}"
    rule = f"{{kind: rejection, beta: {found.recommended:g}, num_accepted: {found.num_accepted}}}"
    return f"rayflow select {shlex.quote(run)} --set 'select={rule}'"


def cards(found: Diagnosis) -> list[Card]:
    """The four headline numbers."""
    point, own = found.choice, found.own_beta
    return [
        Card(
            "Recommended beta",
            f"{point.beta:g}",
            detail=f"for {words.number(found.kl_budget)} nats"
            + ("" if own is None else f"; this run uses {own:g}"),
        ),
        Card(
            "Mean reward",
            words.fixed(point.reward.mean, digits(found)),
            before=words.fixed(found.sft.reward.mean, digits(found)),
            detail="SFT policy → target policy",
        ),
        Card(
            "Expected acceptance",
            words.percent(point.acceptance.mean),
            detail=f"in the first pass; {words.number(point.outcome.rounds.mean)} passes on average",
        ),
        Card(
            "Distinct responses",
            f"{words.number(point.outcome.distinct.mean)} of {found.num_accepted}",
            detail=f"of {words.number(found.distinct_candidates)} distinct among "
            f"{found.num_candidates} candidates",
        ),
    ]


def notes(found: Diagnosis) -> list[str]:
    """What a reader must know before choosing by these numbers."""
    point, n = found.choice, found.num_candidates
    remarks = []
    if not point.trusted:
        remarks.append(
            f"At beta {point.beta:g} only {words.number(point.ess.mean)} of {n} candidates carry the weight "
            f"(effective sample size; {words.number(found.trusted_ess)} are needed). The true KL is larger than "
            "the estimate, and so is the reward of the target policy: sample more candidates, or choose a "
            "smaller budget."
        )
    if point.beta == 0:
        remarks.append(
            f"The budget of {words.number(found.kl_budget)} nats does not bind: by the estimate, which cannot "
            f"exceed log n = {found.max_kl:.2f}, even taking the highest rewards stays within it."
        )
    remarks += [
        "Nothing was trained: these are properties of the target policy pi_beta, which training then follows "
        "more or less closely. Its reward is judged by the reward that defines it, so it is optimistic.",
        "KL and reward are relative to the SFT policy as it was sampled, temperature and truncation included. "
        f"Both are estimated from {n} candidates per prompt and biased low where few of them carry the weight. "
        "The KL of best of N and top k is a formula that holds for any reward; it is an upper bound.",
        *_length_notes(found),
        f"Intervals are {_interval(found)}s over prompts: they cover the choice of prompts, not another draw of "
        f"candidates. Passes, distinct responses and lengths come from running the selection rule on "
        f"{words.count(found.num_sampled, 'prompt')}.",
    ]
    if found.num_prompts < FEW_PROMPTS:
        remarks.append(
            f"With {words.count(found.num_prompts, 'prompt')} the intervals are too narrow; "
            f"use at least {FEW_PROMPTS}."
        )
    return remarks


def _length_notes(found: Diagnosis) -> list[str]:
    within, before = found.length.spearman_within.mean, found.sft.outcome.tokens.mean
    after = found.choice.outcome.tokens.mean
    if not abs(within) >= RANK_WARNING and abs(after / before - 1) <= LENGTH_WARNING:
        return []
    return [
        f"Length: the rank correlation of reward and length within a prompt is {words.fixed(within, 2)}, and "
        f"the responses accepted at beta {found.recommended:g} have {words.fixed(after, 1)} tokens on average, "
        f"against {words.fixed(before, 1)} without selection."
    ]


def _interval(found: Diagnosis) -> str:
    return f"{words.percent(found.confidence, 0)} interval"
