"""Axes of the report's charts, as SVG text whose colours are the page's CSS variables.

Drawn here rather than by a plotting library so that one drawing follows the reader's light or dark scheme,
keeps its text as text (selectable, in the page's font), and stays a few kilobytes.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from html import escape

import numpy as np

LEFT, RIGHT, TOP, BOTTOM = 42.0, 10.0, 22.0, 36.0
"""Margins around the plotting area, in the drawing's own units."""
LARGEST = 1e300
"""Values are drawn up to here, of either sign: the distance of two larger ones can be too large for a float."""


def nice_step(span: float, count: int, factors: Sequence[float] = (1, 2, 5, 10)) -> float:
    """The smallest factor times a power of ten that cuts `span` into at most `count` steps."""
    raw = max(span / count, sys.float_info.min)  # a very short span divided can be zero
    power = 10.0 ** math.floor(math.log10(raw))
    return next(power * factor for factor in factors if power * factor >= raw * (1 - 1e-9))


def ticks(low: float, high: float, count: int) -> list[float]:
    """Round values inside [low, high], about `count` of them; none where it is no range that can be drawn."""
    if not math.isfinite(high - low):
        return []
    step = nice_step(high - low, count)
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    return [round(i * step, 12) if step >= 1e-9 else i * step for i in range(first, last + 1)]


def plain(values: Sequence[float]) -> list[str]:
    """Tick labels with as many decimals as their step needs."""
    size = max((abs(value) for value in values), default=0.0)
    if size and (size >= 1e5 or size < 1e-3):
        return [
            "0" if value == 0 else f"{value:.2g}".replace("e-0", "e-").replace("e+0", "e") for value in values
        ]
    gaps = np.diff(values)
    step = float(gaps.min()) if len(gaps) else 1.0
    digits = next((d for d in range(6) if abs(round(step, d) - step) < step * 1e-6), 6)
    return [f"{value:,.{digits}f}".replace("-", "−") for value in values]


def percents(values: Sequence[float]) -> list[str]:
    """Tick labels of shares."""
    return [f"{label}%" for label in plain([100 * value for value in values])]


@dataclass(frozen=True)
class Frame:
    """A plotting area: data ranges and the drawing's size (units scale with the page's width)."""

    x_range: tuple[float, float]
    y_range: tuple[float, float]
    width: float = 400.0
    height: float = 226.0

    def x(self, value: float) -> float:
        """Horizontal position of a data value."""
        low, high = self.x_range
        return LEFT + (value - low) / (high - low) * (self.width - LEFT - RIGHT)

    def y(self, value: float) -> float:
        """Vertical position of a data value (down is positive in SVG)."""
        low, high = self.y_range
        return self.height - BOTTOM - (value - low) / (high - low) * (self.height - TOP - BOTTOM)

    def axes(
        self,
        x_label: str,
        *,
        x_ticks: Sequence[float] | None = None,
        num_rows: int = 4,
        x_words: Callable[[Sequence[float]], list[str]] = plain,
        y_words: Callable[[Sequence[float]], list[str]] = plain,
        y_label: str = "",
    ) -> str:
        """About `num_rows` horizontal grid lines with labels, the base line, and labelled ticks under it.

        The name of the vertical axis stands above it, where it reads without turning one's head.
        """
        rows = ticks(*self.y_range, num_rows)
        right, base = self.width - RIGHT, self.height - BOTTOM
        parts = []
        for value, word in zip(rows, y_words(rows), strict=True):
            y = self.y(value)
            parts.append(f'<line class="grid" x1="{LEFT:g}" x2="{right:g}" y1="{y:.1f}" y2="{y:.1f}"/>')
            parts.append(
                f'<text class="tick" x="{LEFT - 6:g}" y="{y + 3.5:.1f}" text-anchor="end">{word}</text>'
            )
        columns = ticks(*self.x_range, 6) if x_ticks is None else list(x_ticks)
        parts.append(f'<line class="base" x1="{LEFT:g}" x2="{right:g}" y1="{base:g}" y2="{base:g}"/>')
        for value, word in zip(columns, x_words(columns), strict=True):
            x = self.x(value)
            parts.append(f'<line class="base" x1="{x:.1f}" x2="{x:.1f}" y1="{base:g}" y2="{base + 3:g}"/>')
            parts.append(
                f'<text class="tick" x="{x:.1f}" y="{base + 15:g}" text-anchor="middle">{word}</text>'
            )
        middle = (LEFT + right) / 2
        place = f'x="{middle:g}" y="{self.height - 4:g}" text-anchor="middle"'
        parts.append(f'<text class="axis" {place}>{escape(x_label)}</text>')
        if y_label:
            parts.append(f'<text class="axis" x="0" y="{TOP - 12:g}">{escape(y_label)}</text>')
        return "".join(parts)

    def wrap(self, body: str, description: str) -> str:
        """The drawing with its description for those who do not see it."""
        return (
            f'<svg viewBox="0 0 {self.width:g} {self.height:g}" role="img" '
            f'aria-label="{escape(description, quote=True)}">{body}</svg>'
        )
