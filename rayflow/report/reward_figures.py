"""The charts of a reward model: reliability, scores, margins against length, and its training curves."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from rayflow.core.stats import sigmoid, wilson
from rayflow.report import plane, words
from rayflow.report.figures import CurveSpec, Figure, overlaid
from rayflow.report.plane import Mark
from rayflow.report.plots import Layer
from rayflow.report.svg import Frame, percents

if TYPE_CHECKING:
    from rayflow.evaluation.reward_quality import Bin, JudgedPairs, RewardQuality

CURVES: tuple[CurveSpec, ...] = (
    (
        "Loss",
        (("loss", "after", "loss"),),
        {"reference": float(np.log(2))},
        "The training loss, in nats. The dashed line is log 2, a coin's.",
    ),
    (
        "Pair accuracy",
        (("rewards/accuracies", "after", "accuracy"),),
        {"reference": 0.5, "shares": True},
        "Share of each batch's pairs whose chosen response has the higher score, before the step learns from "
        "them. The dashed line is chance.",
    ),
    (
        "Scores",
        (("rewards/chosen", "chosen", "chosen"), ("rewards/rejected", "rejected", "rejected")),
        {},
        "Mean score of both sides. Only their difference means anything: the loss leaves the level free.",
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


def quality(found: RewardQuality, pairs: JudgedPairs) -> list[Figure]:
    """Reliability, how far the two responses of a pair are apart, and scores against length."""
    chosen = sigmoid(pairs.margins)
    figures = [reliability(found.bins, found.calibration_error)]
    figures += overlaid(
        "Probability of the chosen response",
        [Layer("chosen", "pairs", chosen)],
        "predicted probability that the chosen response is better",
        "Right of 50% the model agrees with the label. Mass at the far left means that it is sure and wrong: "
        "label noise, or a flaw of the model.",
        span=(0.0, 1.0),
        counted="pairs",
    )
    if len(pairs.scores):
        figures += overlaid(
            "Scores of chosen and rejected responses",
            [
                Layer("chosen", "chosen", pairs.chosen_scores),
                Layer("rejected", "rejected", pairs.rejected_scores),
            ],
            "score",
            "Over all prompts. Scores of different prompts share no zero, so the two may overlap more than "
            "the accuracy suggests.",
        )
    return [*figures, *by_length(pairs)]


def reliability(bins: tuple[Bin, ...], error: float) -> Figure:
    """Predicted probability against the share that came true, with a 95% interval for each bin."""
    frame = Frame((0.0, 1.0), (0.0, 1.0))
    body = [
        frame.axes("predicted probability", x_words=percents, y_words=percents, y_label="observed share"),
        _segment(frame, (0.0, 0.0), (1.0, 1.0), "reference"),
    ]
    filled = [each for each in bins if each.count]
    for each in filled:
        low, high = wilson(each.observed, each.count)
        body.append(_segment(frame, (each.predicted, low), (each.predicted, high), "line raw after"))
    body.append(plane.line(frame, [(each.predicted, each.observed) for each in filled], "after"))
    body.append(plane.marks(frame, [_mark(each) for each in filled], "after", "circle"))
    return Figure(
        "Reliability",
        frame.wrap("".join(body), "Reliability diagram: predicted probability against observed share"),
        (("after circle", "observed share", f"expected calibration error {words.percent(error)}"),),
        "Of the pairs for which the model predicts a probability, in how many it comes true; pairs are turned at "
        "random. On the dashed line it says what it knows. Flatter: too sure of itself; steeper: not sure "
        "enough. Thin lines are 95% intervals.",
    )


def by_length(pairs: JudgedPairs) -> list[Figure]:
    """The preference for the longer response against how much longer it is, in ten bins of equal size."""
    difference = np.abs(pairs.chosen_tokens - pairs.rejected_tokens)
    unequal = difference > 0
    if np.count_nonzero(unequal) < 2 or np.ptp(difference[unequal]) == 0:
        return []
    sign = np.where(pairs.chosen_tokens > pairs.rejected_tokens, 1, -1)[unequal]
    model, label = sigmoid(sign * pairs.margins[unequal]), (sign + 1) / 2
    parts = [p for p in np.array_split(np.argsort(difference[unequal], kind="stable"), 10) if len(p)]
    place = [float(difference[unequal][part].mean()) for part in parts]
    frame = Frame((0.0, max(place) * 1.05), (0.0, 1.0))
    body = [
        frame.axes(
            "tokens by which one response is longer (bin mean)",
            y_words=percents,
            y_label="preference for the longer",
        ),
        _segment(frame, (0.0, 0.5), (max(place) * 1.05, 0.5), "reference"),
    ]
    legend = []
    for style, shape, name, values in (
        ("neutral", "square", "labels", label),
        ("after", "circle", "model", model),
    ):
        points = [(x, float(values[part].mean())) for x, part in zip(place, parts, strict=True)]
        marks = [Mark(x, y, "", f"{name}: {words.percent(y)} at {words.number(x)} tokens") for x, y in points]
        body += [plane.line(frame, points, style), plane.marks(frame, marks, style, shape)]
        legend.append((f"{style} {shape}", name, f"mean {words.percent(float(values.mean()))}"))
    return [
        Figure(
            "Preference for the longer response",
            frame.wrap("".join(body), "Preference for the longer response by difference in length"),
            tuple(legend),
            "Share of labels, and mean probability of the model, in favour of the longer response. Where the "
            "model lies above the labels, it pays for length more than people do.",
        )
    ]


def _mark(each: Bin) -> Mark:
    tip = (
        f"{words.percent(each.low, 0)} to {words.percent(each.high, 0)}: {words.count(each.count, 'pair')}, "
        f"predicted {words.percent(each.predicted)}, observed {words.percent(each.observed)}"
    )
    return Mark(each.predicted, each.observed, "", tip)


def _segment(frame: Frame, start: tuple[float, float], end: tuple[float, float], style: str) -> str:
    (x1, y1), (x2, y2) = ((frame.x(x), frame.y(y)) for x, y in (start, end))
    return f'<line class="{style}" x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}"/>'
