"""The charts of `rayflow diagnose`: reward against KL, and what each beta costs."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING

from rayflow.report import plane, words
from rayflow.report.figures import Figure
from rayflow.report.labels import labels
from rayflow.report.plane import Mark
from rayflow.report.svg import Frame, percents, plain

if TYPE_CHECKING:
    from rayflow.evaluation.diagnosis import BetaPoint, CountPoint, Diagnosis


def frontier(found: Diagnosis) -> Figure:
    """Mean reward against KL: the curve of beta, with best-of-N and top-k on the same plane."""
    return Figure(
        "Mean reward against KL",
        _plane(found),
        (
            ("after circle", "pi_beta", f"beta {found.recommended:g} is ringed"),
            ("before square", "best of N", "KL is an upper bound"),
            ("chosen triangle", "top k", f"of {found.num_candidates}, KL is an upper bound"),
        ),
        "Up is more reward, right is further from the SFT policy. The curve runs from no selection (left) to "
        "taking the best candidates (beta 0). It is dashed where the effective sample size is too small to "
        "trust: there the truth lies further right. The band is the interval of the gain over the SFT policy. "
        "Points have tooltips.",
    )


def _plane(found: Diagnosis) -> str:
    curve, start = [found.sft, *found.points], found.sft.reward.mean
    top_k = [p for p in found.top_k if 1 < p.count < found.num_candidates]  # its ends are best-of-N's
    heights = [start + e for p in (*curve, *found.best_of, *top_k) for e in (p.gain.low, p.gain.high)]
    room = 0.08 * (max(heights) - min(heights)) or 1.0
    frame = Frame((0.0, 1.03 * found.max_kl), (min(heights) - room, max(heights) + room), 820.0, 400.0)
    kls = [p.kl.mean for p in curve]
    line = [(p.kl.mean, p.reward.mean) for p in curve]
    trusted = sum(p.trusted for p in curve)  # the first ones: the sample size falls with beta
    best = [_count_mark(p, "best of N", f"N={p.count}") for p in found.best_of]
    top, betas = _top_marks(top_k, found.num_accepted), _beta_marks(found)
    limit = f"log n = {found.max_kl:.2f}, the most that n candidates can show"
    parts = [
        frame.axes("KL from the SFT policy (nats)", num_rows=7, y_label="mean reward"),
        plane.upright(frame, found.kl_budget, f"budget {words.number(found.kl_budget)}"),
        plane.upright(frame, found.max_kl, limit),
        plane.band(
            frame, kls, [start + p.gain.low for p in curve], [start + p.gain.high for p in curve], "after"
        ),
        plane.line(frame, line[:trusted], "after"),
        plane.line(frame, line[max(trusted - 1, 0) :], "after weak"),
        plane.marks(frame, best, "before", "square"),
        plane.marks(frame, top, "chosen", "triangle"),
        plane.marks(frame, betas, "after", "circle"),
        labels(frame, [*betas, *best, *top], line),
        plane.ring(frame, found.choice.kl.mean, found.choice.reward.mean),
    ]
    said = (
        f"Mean reward against KL from the SFT policy: {words.number(start)} at no selection, "
        f"{words.number(found.choice.reward.mean)} with {words.number(found.choice.kl.mean)} nats at the recommended "
        f"beta {found.recommended:g}"
    )
    return frame.wrap("".join(parts), said)


def acceptance(found: Diagnosis) -> Figure:
    """Acceptance rate, distinct responses and effective sample size against beta, as shares."""
    k, n = found.num_accepted, found.num_candidates
    series: list[Series] = [
        ("after", "expected acceptance", "circle", lambda p: p.acceptance.mean),
        ("chosen", f"distinct of {k} accepted", "triangle", lambda p: p.outcome.distinct.mean / k),
        ("neutral", "effective sample size / n", "square", lambda p: p.ess.mean / n),
    ]
    return Figure(
        "Acceptance and diversity against beta",
        _against_beta(found, series, 1.04, shares=True),
        tuple(
            (f"{style} {shape}", name, words.percent(value(found.choice)))
            for style, name, shape, value in series
        ),
        "Expected acceptance in the first pass of rejection sampling, different texts among the accepted, and the "
        "share of the candidates that carries the weight. The numbers are those at the recommended beta "
        "(dashed line). Acceptance near 100% hardly selects; near zero, later passes take the best in turn.",
    )


def divergence(found: Diagnosis) -> Figure:
    """KL against beta, with the budget that beta was chosen by."""
    top = max([found.kl_budget, *(p.kl.mean for p in found.points if p.beta > 0)])
    series: list[Series] = [("after", "KL estimate", "circle", lambda p: p.kl.mean)]
    return Figure(
        "KL against beta",
        _against_beta(found, series, 1.08 * top, budget=found.kl_budget),
        (("after circle", "KL estimate", f"{words.number(found.choice.kl.mean)} nats"),),
        "The recommended beta is the smallest value of two digits whose estimate is within the budget. The "
        f"estimate cannot exceed log n = {found.max_kl:.2f} nats and levels off before it.",
    )


Series = tuple[str, str, str, Callable[["BetaPoint"], float]]
"""Style, name, shape of the points, and what is drawn of each beta."""


def _against_beta(
    found: Diagnosis, series: list[Series], top: float, *, shares: bool = False, budget: float | None = None
) -> str:
    """Curves over beta on a log scale, from zero to `top`."""
    points = [point for point in found.points if point.beta > 0]
    logs = [math.log10(point.beta) for point in points] or [0.0]
    room = 0.04 * (max(logs) - min(logs)) or 0.3
    frame = Frame((min(logs) - room, max(logs) + room), (0.0, top))
    word = words.percent if shares else words.number
    body = [
        frame.axes(
            "beta (log scale)",
            x_ticks=plane.log_ticks(*frame.x_range),
            x_words=plane.powers,
            y_words=percents if shares else plain,
            y_label="share" if shares else "KL (nats)",
        )
    ]
    if budget is not None:
        body.append(plane.level(frame, budget, f"budget {words.number(budget)}"))
    if found.recommended:
        body.append(plane.upright(frame, math.log10(found.recommended), ""))
    for style, name, shape, value in series:
        spots = [
            Mark(x, value(p), "", f"beta {p.beta:g}: {name} {word(value(p))}")
            for x, p in zip(logs, points, strict=False)
        ]
        body.append(plane.line(frame, [(spot.x, spot.y) for spot in spots], style))
        body.append(plane.marks(frame, spots, style, shape))
    said = ", ".join(f"{name} {word(value(found.choice))}" for _, name, _, value in series)
    return frame.wrap("".join(body), f"Against beta; at the recommended {found.recommended:g}: {said}")


def _beta_marks(found: Diagnosis) -> list[Mark]:
    """The recommended point first, so that its label has room, then the others from no selection on."""

    def mark(point: BetaPoint, label: str, name: str) -> Mark:
        tip = (
            f"{name}: reward {words.number(point.reward.mean)}, KL {words.number(point.kl.mean)}, "
            f"effective sample size {words.number(point.ess.mean)}"
        )
        return Mark(point.kl.mean, point.reward.mean, label, tip)

    others = [point for point in found.points if point.beta != found.recommended]
    named = [mark(found.choice, f"beta {found.recommended:g}", f"beta {found.recommended:g}, recommended")]
    named += [mark(point, f"{point.beta:g}", f"beta {point.beta:g}") for point in others]
    return [*named, mark(found.sft, "", "SFT policy")]


def _top_marks(points: list[CountPoint], num_accepted: int) -> list[Mark]:
    """Only the run's own k has a label: the others lie between those of best-of-N."""
    labels = [f"k={p.count}" if p.count == num_accepted else "" for p in points]
    return [_count_mark(p, "top k", label) for p, label in zip(points, labels, strict=True)]


def _count_mark(point: CountPoint, name: str, label: str) -> Mark:
    tip = (
        f"{name}, {name[-1]} = {point.count}: reward {words.number(point.reward.mean)}, "
        f"KL at most {words.number(point.kl_bound)}"
    )
    return Mark(point.kl_bound, point.reward.mean, label, tip)
