"""Curves over training steps."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from rayflow.report import words
from rayflow.report.curve import Curve, finite, is_noisy, smoothed, thinned
from rayflow.report.svg import Frame, percents, plain, ticks


def curves(
    series: Sequence[Curve], *, reference: float | None = None, shares: bool = False, from_zero: bool = False
) -> str:
    """Curves over training steps; a noisy one is drawn faint with its running mean on top.

    Args:
        series: the curves.
        reference: a value worth a dashed line (chance, zero).
        shares: the values are shares, the axis runs from 0 to 100%.
        from_zero: the axis starts at zero.
    """
    kept = [curve for curve in map(finite, series) if curve.values.size]
    if not kept:
        return ""
    frame = Frame(_range([c.steps for c in kept]), _height(kept, reference, shares, from_zero), 320.0, 204.0)
    body = [
        frame.axes(
            "training step",
            x_ticks=_whole_ticks(frame),
            y_words=percents if shares else plain,
            y_label=", ".join(curve.label for curve in kept),
        )
    ]
    if reference is not None:
        y, left, right = frame.y(reference), frame.x(frame.x_range[0]), frame.x(frame.x_range[1])
        body.append(f'<line class="reference" x1="{left:.1f}" x2="{right:.1f}" y1="{y:.1f}" y2="{y:.1f}"/>')
    for curve in kept:
        # Before anything is left out: a mean of what is drawn would be one of spikes.
        smooth = smoothed(curve)
        noisy = is_noisy(curve, smooth)
        body.append(_line(frame, thinned(curve), "line raw" if noisy else "line"))
        if noisy:
            body.append(_line(frame, thinned(smooth), "line"))
    word = words.percent if shares else words.number
    ends = ", ".join(
        f"{c.label} from {word(float(c.values[0]))} to {word(float(c.values[-1]))}" for c in kept
    )
    return frame.wrap("".join(body), f"Over training steps: {ends}")


def _range(arrays: Sequence[np.ndarray], padding: float = 0.0) -> tuple[float, float]:
    low, high = min(float(a.min()) for a in arrays), max(float(a.max()) for a in arrays)
    if high - low <= 1e-12 * max(abs(low), abs(high)):
        room = abs(low) / 2 or 0.5
        return low - room, high + room
    return low - padding * (high - low), high + padding * (high - low)


def _height(
    kept: Sequence[Curve], reference: float | None, shares: bool, from_zero: bool
) -> tuple[float, float]:
    if shares:
        return 0.0, 1.0
    arrays = [curve.values for curve in kept]
    if reference is not None:
        arrays.append(np.array([reference]))
    low, high = _range(arrays, padding=0.06)
    return (0.0, high) if from_zero and low > -high else (low, high)


def _whole_ticks(frame: Frame) -> list[float]:
    return [value for value in ticks(*frame.x_range, 5) if value == round(value)]


def _line(frame: Frame, curve: Curve, kind: str) -> str:
    points = [(frame.x(float(s)), frame.y(float(v))) for s, v in zip(curve.steps, curve.values, strict=True)]
    if len(points) == 1:
        return f'<circle class="dot {curve.style}" cx="{points[0][0]:.1f}" cy="{points[0][1]:.1f}" r="3"/>'
    text = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
    return f'<polyline class="{kind} {curve.style}" points="{text}"/>'
