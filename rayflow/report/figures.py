"""Which charts each section shows, with the captions that say how to read them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from rayflow.report import words
from rayflow.report.curve import Curve
from rayflow.report.data import (
    EvaluationSection,
    PairingSection,
    SelectionSection,
    TrainingSection,
)
from rayflow.report.plots import Layer, histogram, only_value
from rayflow.report.steps import curves
from rayflow.report.values import any_below_zero, mean_of, size_of


@dataclass(frozen=True)
class Figure:
    """One chart: its `svg` text, the legend as (CSS classes, label, number) and a caption.

    Without `svg` the caption alone says what there is. The legend's classes are a colour's, and a point's shape.
    """

    title: str
    svg: str
    legend: tuple[tuple[str, str, str], ...]
    caption: str


def overlaid(title: str, layers: list[Layer], x_label: str, caption: str, **options) -> list[Figure]:
    """The figure, a sentence where all values are the same, or nothing where no layer holds a value."""
    whole, span = options.get("whole", False), options.get("span")
    only = only_value(layers, whole)
    if only is not None:
        word = words.percent if span else words.number
        sizes = ", ".join(f"{layer.label}: {size_of(layer.values):,}" for layer in layers)
        return [Figure(title, "", (), f"Every value is {word(only)} ({sizes}).")]
    svg = histogram(layers, x_label, **options)
    legend = tuple(
        (layer.style, layer.label, f"mean {_mean(layer, layers, whole, bool(span))}")
        for layer in layers
        if size_of(layer.values)
    )
    return [Figure(title, svg, legend, caption)] if svg else []


def _mean(layer: Layer, layers: list[Layer], whole: bool, is_share: bool) -> str:
    mean = mean_of(layer.values)
    if is_share or whole:
        return words.percent(mean) if is_share else words.fixed(mean, 1)
    return words.reward(mean, *(mean_of(other.values) for other in layers if size_of(other.values)))


def selection(section: SelectionSection) -> list[Figure]:
    """Rewards before and after selection where there are any, acceptance rates, rounds."""
    found = []
    if section.candidate_rewards is not None and section.accepted_rewards is not None:
        found += overlaid(
            "Rewards before and after selection",
            [
                Layer("before", "all candidates", section.candidate_rewards),
                Layer("after", "accepted", section.accepted_rewards),
            ],
            "reward",
            "Share of responses in each reward bin. Selection should move mass to the right and still leave "
            "width: accepted responses that all sit in one bin give pairs with nothing to learn from.",
        )
    if section.acceptance_rates is not None:
        found += overlaid(
            "Acceptance rate per prompt",
            [Layer("neutral", "prompts", section.acceptance_rates)],
            "accepted / visited candidates",
            "Share of visited candidates that were accepted, one value per prompt. Near 100% selection "
            "hardly selects (beta is large for this reward); near zero it is close to taking "
            "the top candidates.",
            span=(0.0, 1.0),
            counted="prompts",
        )
    if section.rounds is not None:
        found += overlaid(
            "Passes per prompt",
            [Layer("neutral", "prompts", section.rounds)],
            "passes over the remaining candidates",
            "How often the remaining candidates were visited until enough were accepted. Many passes mean "
            "that candidates which were rejected before got in after all.",
            whole=True,
            counted="prompts",
        )
    return found


def pairing(section: PairingSection) -> list[Figure]:
    """Margins of the pairs: of a ranker's labels they are its log-odds, of others the rewards' difference."""
    title, axis = "Reward margin of the pairs", "reward of chosen − reward of rejected"
    left = "were labelled against this reward"
    if section.num_by_ranker:
        title, axis = "Margin of the ranker's labels", "log-odds that the chosen is better"
        left = "were drawn against the odds"
    return overlaid(
        title,
        [Layer("neutral", "pairs", section.margins)],
        axis,
        "Pairs far to the right are easy to tell apart. Pairs around zero are close to coin flips"
        # The better of two by a pointwise reward is never the worse: a reader would look for what is not there.
        + (f", and pairs left of zero {left}." if any_below_zero(section.margins) else "."),
        counted="pairs",
    )


CurveSpec = tuple[str, tuple[tuple[str, str, str], ...], dict[str, Any], str]

CURVES: tuple[CurveSpec, ...] = (
    ("Loss", (("loss", "after", "loss"),), {}, "The training loss. It should fall and then flatten."),
    (
        "Implicit reward margin",
        (("rewards/margins", "after", "margin"),),
        {"reference": 0.0},
        "Implicit reward of the chosen minus that of the rejected response, in gamma times nats. Zero at the start, "
        "where policy and reference are equal.",
    ),
    (
        "Implicit rewards",
        (("rewards/chosen", "chosen", "chosen"), ("rewards/rejected", "rejected", "rejected")),
        {"reference": 0.0},
        "Gamma times the log-ratio of policy to reference, in gamma times nats. If both fall, the policy moves away "
        "from the chosen responses too, only more slowly.",
    ),
    (
        "Pair accuracy",
        (("rewards/accuracies", "after", "accuracy"),),
        {"reference": 0.5, "shares": True},
        "Share of pairs whose chosen response has the higher implicit reward. The dashed line is chance. It may start "
        "far below: at the first step policy and reference are equal, and ties count as wrong, as in TRL.",
    ),
    (
        "Validation win rate",
        (("eval/win_rate", "after", "win rate"),),
        {"reference": 0.5, "shares": True},
        "Of each evaluated checkpoint against the baseline, on the validation prompts. The best one is kept, so "
        "its own value is optimistic.",
    ),
    (
        "Gradient norm",
        (("grad_norm", "after", "norm"),),
        {"from_zero": True},
        "Norm of the gradient before clipping. Spikes point at single bad batches.",
    ),
    (
        "Learning rate",
        (("learning_rate", "after", "learning rate"),),
        {"from_zero": True},
        "The schedule that was really used.",
    ),
)


def training(section: TrainingSection, shown: Sequence[CurveSpec] = CURVES) -> list[Figure]:
    """The curves whose metric the history holds.

    Args:
        section: the history.
        shown: title, metrics as (name, CSS class, label), options of `curves`, and caption of each chart.
    """
    found = []
    for title, metrics, options, caption in shown:
        series = []
        for key, style, label in metrics:
            rows = [(row["step"], row[key]) for row in section.history if row.get(key) is not None]
            steps, values = np.array(rows, np.float64).reshape(-1, 2).T
            series.append(Curve(style, label, steps, values))
        svg = curves(series, **options)
        if svg:
            word = words.percent if options.get("shares") else words.number
            legend = tuple(
                (curve.style, curve.label, f"last {word(float(curve.values[-1]))}")
                for curve in series
                if curve.values.size
            )
            found.append(Figure(title, svg, legend, caption))
    return found


def evaluation(section: EvaluationSection) -> list[Figure]:
    """Rewards and lengths on the held-out prompts, before and after training."""
    found = []
    which = "on prompts that training never saw"
    if section.num_seen:
        which = f"on the evaluation prompts, of which training saw {section.num_seen:,}"
    if section.baseline_rewards is not None and section.policy_rewards is not None:
        found += overlaid(
            "Rewards before and after training",
            [
                Layer("before", section.baseline, section.baseline_rewards),
                Layer("after", "trained model", section.policy_rewards),
            ],
            f"reward on {section.prompts_are} prompts",
            f"Share of responses in each reward bin, {which}. The triangles and dashed lines mark the means.",
        )
    if section.baseline_lengths is not None and section.policy_lengths is not None:
        found += overlaid(
            "Response lengths before and after training",
            [
                Layer("before", section.baseline, section.baseline_lengths),
                Layer("after", "trained model", section.policy_lengths),
            ],
            "tokens per response",
            "Many rewards favour longer answers, so a gain in reward should be read next to this chart. A "
            "peak at the right edge means responses cut at the token limit.",
            whole=True,
        )
    return found
