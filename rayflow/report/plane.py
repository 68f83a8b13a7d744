"""Pieces of charts: lines, bands, marks with tooltips, and guides with a label.

Row in: data coordinates of a `Frame`. Out: SVG text. Colours are the page's CSS classes, as in `plots`; each
kind of point also has its own shape.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

from rayflow.report.svg import Frame


@dataclass(frozen=True)
class Mark:
    """One named point.

    Attributes:
        x, y: data coordinates.
        label: short text beside it, where `labels` finds room; "" for none.
        tip: what the tooltip says.
    """

    x: float
    y: float
    label: str
    tip: str


def line(frame: Frame, points: Sequence[tuple[float, float]], style: str) -> str:
    """A polyline through data points; nothing for fewer than two."""
    if len(points) < 2:
        return ""
    return f'<polyline class="line {style}" points="{_path(frame, points)}"/>'


def band(frame: Frame, xs: Sequence[float], lows: Sequence[float], highs: Sequence[float], style: str) -> str:
    """The area between two curves over the same `xs`."""
    if len(xs) < 2:
        return ""
    around = [*zip(xs, highs, strict=True), *reversed(list(zip(xs, lows, strict=True)))]
    return f'<polygon class="band {style}" points="{_path(frame, around)}"/>'


def marks(frame: Frame, points: Sequence[Mark], style: str, shape: str) -> str:
    """Points of one series with their tooltips; `labels` writes the names.

    Args:
        frame: the plotting area.
        points: in the order in which they are drawn.
        style: CSS class that colours them.
        shape: "circle", "square", "diamond" or "triangle".
    """
    return "".join(
        f'<g class="spot">{_shape(frame.x(point.x), frame.y(point.y), style, shape)}'
        f"<title>{escape(point.tip)}</title></g>"
        for point in points
    )


def ring(frame: Frame, x: float, y: float) -> str:
    """A circle around the point that matters."""
    return f'<circle class="ring" cx="{frame.x(x):.1f}" cy="{frame.y(y):.1f}" r="7"/>'


def upright(frame: Frame, x: float, label: str) -> str:
    """A dashed vertical line with its label at the foot, on the side that has room; none outside the frame."""
    low, high = frame.x_range
    if not low <= x <= high:
        return ""
    at, top, base = frame.x(x), frame.y(frame.y_range[1]), frame.y(frame.y_range[0])
    dx, anchor = (-5, "end") if x > (low + high) / 2 else (5, "start")
    drawn = f'<line class="reference" x1="{at:.1f}" x2="{at:.1f}" y1="{top:.1f}" y2="{base:.1f}"/>'
    return drawn + text(at + dx, base - 6, label, anchor)


def level(frame: Frame, y: float, label: str) -> str:
    """A dashed horizontal line with its label at the right end, above the line."""
    at, left, right = frame.y(y), frame.x(frame.x_range[0]), frame.x(frame.x_range[1])
    drawn = f'<line class="reference" x1="{left:.1f}" x2="{right:.1f}" y1="{at:.1f}" y2="{at:.1f}"/>'
    return drawn + text(right, at - 4, label, "end")


def text(x: float, y: float, words: str, anchor: str) -> str:
    """A label at a position of the drawing."""
    return f'<text class="label" x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{escape(words)}</text>'


def log_ticks(low: float, high: float) -> list[float]:
    """Positions log10(v) of round values v between 10**low and 10**high: 1, 2, 5 of each decade, or 1 alone."""
    decades = range(math.floor(low), math.ceil(high) + 1)
    mantissas = (1, 2, 5) if high - low <= 3 else (1,)
    found = [decade + math.log10(mantissa) for decade in decades for mantissa in mantissas]
    return [value for value in found if low - 1e-9 <= value <= high + 1e-9]


def powers(positions: Sequence[float]) -> list[str]:
    """Tick labels of `log_ticks`."""
    return [f"{10**position:.6g}" for position in positions]


def _path(frame: Frame, points: Sequence[tuple[float, float]]) -> str:
    return " ".join(f"{frame.x(x):.1f},{frame.y(y):.1f}" for x, y in points)


def _shape(x: float, y: float, style: str, shape: str) -> str:
    if shape == "circle":
        return f'<circle class="dot {style}" cx="{x:.1f}" cy="{y:.1f}" r="3.4"/>'
    if shape == "square":
        return f'<rect class="dot {style}" x="{x - 3.1:.1f}" y="{y - 3.1:.1f}" width="6.2" height="6.2"/>'
    if shape == "diamond":
        return f'<path class="dot {style}" d="M{x:.1f},{y - 4.8:.1f}l4.8,4.8l-4.8,4.8l-4.8,-4.8z"/>'
    return f'<path class="dot {style}" d="M{x:.1f},{y - 4.2:.1f}l4.4,7.4h-8.8z"/>'
