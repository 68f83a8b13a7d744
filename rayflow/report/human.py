"""Human ratings: the page that raters open, and the page with what they said."""

from __future__ import annotations

import base64
import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rayflow import __version__
from rayflow.core.stats import excludes_half
from rayflow.report import words
from rayflow.report.remarks import FEW_PROMPTS
from rayflow.report.render import PAGE, SUMMARY, Card, render_template, replace_file
from rayflow.report.summary import strict

if TYPE_CHECKING:
    from rayflow.evaluation.human import HumanResult, SystemResult

LETTERS = "ABCDEFGH"
"""Names of the responses of a task; the page's other keys are j, k, n and u."""
INSTRUCTIONS = (
    "Read what was asked, then every response. Rate each one by itself, then say which one is best: correct, clear, "
    "and what was asked for. Different tasks show the responses in a different order. Your answers stay in this "
    "browser until you save them to a file; nothing is sent anywhere."
)
LOW_AGREEMENT = 0.4


@dataclass(frozen=True)
class Task:
    """What a rater sees of one prompt: its name, the prompt, and the responses in the order of their letters."""

    name: str
    prompt: str
    responses: tuple[str, ...]

    @property
    def shown(self) -> list[tuple[str, str]]:
        """(letter, response)."""
        return list(zip(LETTERS, self.responses, strict=False))


def rating_page(tasks: Sequence[Task], export: str, instructions: str = INSTRUCTIONS) -> str:
    """The page as text. Its only script is our own, by its hash; what a model wrote is text, never markup.

    Args:
        tasks: at least one; each with the same number of responses.
        export: names these tasks, so that answers to others are not mixed in.
        instructions: what raters read first.
    """
    from markupsafe import Markup

    script = Path(__file__).with_name("rating.js").read_text(encoding="utf-8")
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    return render_template(
        "rating.html.j2",
        tasks=tasks,
        letters=LETTERS[: len(tasks[0].responses)],
        export=export,
        instructions=instructions,
        script=Markup(script),
        script_hash=f"sha256-{digest}",
    )


def write_human_report(result: HumanResult, facts: Mapping[str, Any], folder: Path) -> Path:
    """Write `report.html` and `summary.json`; returns the page's path.

    Args:
        result: the aggregated ratings.
        facts: further entries of the summary, such as the export's name.
        folder: where they go.
    """
    numbers = {"rayflow_version": __version__, **facts, **asdict(result), "notes": notes(result)}
    text = json.dumps(strict(numbers), indent=2, ensure_ascii=False, allow_nan=False)
    replace_file(folder / SUMMARY, text + "\n")
    page = render_template(
        "human.html.j2", r=result, facts=facts, lead=lead(result), cards=cards(result), notes=notes(result)
    )
    replace_file(folder / PAGE, page)
    return folder / PAGE


def lead(result: HumanResult) -> str:
    """The result in a sentence or two."""
    raters, tasks = words.count(result.num_raters, "rater"), words.count(result.num_tasks, "task")
    preferred = _preferred(result)
    said = f"{raters} on {tasks}: {_said_of(preferred, result.num_voted)}"
    if len(result.systems) == 2:
        return f"{said}. {_by_quality(result)}"
    if not preferred:
        return f"{said}."
    return f"{said}, no system on {words.percent(result.no_preference + result.no_majority)}."


def _by_quality(result: HumanResult) -> str:
    """Which of two systems is better by mean quality: its win rate, and whether that settles it."""
    (pair,) = result.pairs
    rate = pair.win_rate
    if math.isnan(rate.mean):
        return "Quality was not rated for both on any task."
    name, mean, low, high = pair.first, rate.mean, rate.low, rate.high
    if mean < 0.5:
        name, mean, low, high = pair.second, 1 - mean, 1 - high, 1 - low
    decided = round((pair.win + pair.loss) * pair.num_tasks)
    settled = excludes_half(low, high, pair.num_tasks, decided, result.confidence)
    return (
        f"By mean quality {name} wins {words.percent(mean)} (ties half, {words.percent(result.confidence, 0)} interval "
        f"{words.percent(low)} to {words.percent(high)}): "
        + ("it is better." if settled else "that does not settle which is better.")
    )


def _preferred(result: HumanResult) -> list[SystemResult]:
    """The systems that most raters prefer on the most tasks: several share that, none has any."""
    most = max((each.majority for each in result.systems if each.majority > 0), default=None)
    return [each for each in result.systems if each.majority == most]


def _said_of(preferred: Sequence[SystemResult], num_voted: int) -> str:
    """Whom most raters prefer, and on how many of the tasks that have a vote."""
    if not preferred:
        return "no system is preferred on any of them"
    majority = preferred[0].majority
    share = f"{round(majority * num_voted)} of {words.count(num_voted, 'task')} ({words.percent(majority)})"
    if len(preferred) == 1:
        return f"{preferred[0].name} is preferred on {share}"
    return f"no system is ahead, {len(preferred)} are each preferred on {share}"


def _card_of(preferred: Sequence[SystemResult], num_voted: int) -> Card:
    """Names a system only where it alone is preferred most often."""
    name = preferred[0].name if len(preferred) == 1 else "no system alone" if preferred else "none"
    share, tasks = preferred[0].majority if preferred else 0.0, words.count(num_voted, "task")
    detail = f"of {tasks}" if len(preferred) < 2 else f"of {tasks}, for each of {len(preferred)} systems"
    return Card(
        f"Preferred by most raters: {name}", words.percent(share) if num_voted else words.NONE, detail=detail
    )


def _card_of_quality(result: HumanResult) -> Card:
    """Names a system only where no other one has the same mean."""
    rated = [each for each in result.systems if not math.isnan(each.quality.mean)]
    if not rated:
        return Card("Best quality: none", words.NONE, detail="no response was rated")
    quality = max(rated, key=lambda each: each.quality.mean).quality
    equal = [each.name for each in rated if math.isclose(each.quality.mean, quality.mean)]
    between = f"{words.fixed(quality.low, 2)} – {words.fixed(quality.high, 2)}"
    return Card(
        f"Best quality: {equal[0] if len(equal) == 1 else 'no system alone'}",
        words.fixed(quality.mean, 2),
        detail=f"of 5; {between if len(equal) == 1 else f'the mean of {len(equal)} systems'}",
    )


def cards(result: HumanResult) -> list[Card]:
    """The headline numbers: the best system's quality, how often one is preferred, and the agreement."""
    fixed = words.fixed
    return [
        _card_of_quality(result),
        _card_of(_preferred(result), result.num_voted),
        Card(
            "Agreement on quality", fixed(result.quality_agreement, 2), detail="Krippendorff's alpha, ordinal"
        ),
        Card(
            "Agreement on the best", fixed(result.best_agreement, 2), detail="Krippendorff's alpha, nominal"
        ),
    ]


def notes(result: HumanResult) -> list[str]:
    """What a reader must know before quoting the numbers."""
    found = [
        f"Intervals are {words.percent(result.confidence, 0)} percentile bootstraps over tasks "
        f"({result.num_resamples:,} resamples); they do not cover the choice of raters. A task is preferred by "
        "majority where one answer has more votes than any other; two that share the most votes are no majority."
    ]
    if result.num_raters < 2:
        found.append("With one rater there is no agreement to measure. Three to a task are usual.")
    elif result.quality_agreement < LOW_AGREEMENT:
        found.append(
            "Raters hardly agree on quality: are the instructions clear, and is the difference one that can be seen?"
        )
    fewest = min((pair.num_tasks for pair in result.pairs if pair.num_tasks), default=result.num_tasks)
    if fewest < FEW_PROMPTS:
        tasks = words.count(fewest, "task")
        both = " on which both of two systems are rated" if fewest < result.num_tasks else ""
        found.append(f"With {tasks}{both} the intervals are too narrow; use at least {FEW_PROMPTS}.")
    return found
