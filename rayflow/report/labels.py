"""Names beside the points of a chart: none over a point, none over another.

Row in: the points of a drawing in the order in which they claim room. Out: SVG text. A name stands beside its
point where there is room, else a little further off with a thin line to it, else it is left to the tooltip.
The greedy point-feature labelling of map makers; an optimum is not worth its time for a few dozen points.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from html import escape
from itertools import pairwise
from typing import NamedTuple

import numpy as np

from rayflow.report.plane import Mark
from rayflow.report.svg import BOTTOM, LEFT, RIGHT, TOP, Frame

CHAR_WIDTH, HEIGHT = 6.2, 11.0
"""About the size of a character of class `label`, in the drawing's units."""

POINT = 4.5
"""Half the side of the square that a point takes."""

STROKE = 1.5
"""Half the width that a curve takes."""

DISTANCES = (8.0, 16.0, 26.0, 38.0, 52.0)
"""How far from its point a name may stand, nearest first; past the first one it gets a line."""

ANGLES = (0, 180, 315, 225, 45, 135, 270, 90, 337, 203, 23, 157)
"""Directions in degrees, clockwise from the right, in the order in which they read best."""


class Box(NamedTuple):
    """A rectangle of the drawing: `left` < `right`, `top` < `bottom`."""

    left: float
    top: float
    right: float
    bottom: float

    def meets(self, other: Box) -> bool:
        """Whether the two overlap."""
        across = self.left < other.right and other.left < self.right
        return across and self.top < other.bottom and other.top < self.bottom


def labels(frame: Frame, points: Sequence[Mark], line: Sequence[tuple[float, float]] = ()) -> str:
    """The names of the points that have one.

    Args:
        frame: the plotting area; names stay inside it.
        points: every point of the drawing, those without a name too, since no name may hide one; the earlier
            ones choose first.
        line: the corners of a curve in data coordinates, which names do not cross either.
    """
    taken = [_around(frame.x(point.x), frame.y(point.y), POINT) for point in points]
    taken += [_around(x, y, STROKE) for x, y in _along([(frame.x(x), frame.y(y)) for x, y in line])]
    inside = Box(LEFT, TOP, frame.width - RIGHT, frame.height - BOTTOM)
    parts = []
    for point in points:
        x, y = frame.x(point.x), frame.y(point.y)
        for box, is_far in _places(x, y, CHAR_WIDTH * len(point.label)) if point.label else ():
            if _within(box, inside) and not any(box.meets(other) for other in taken):
                taken.append(box)
                parts.append(_text(box, point.label, (x, y) if is_far else None))
                break
    return "".join(parts)


def _places(x: float, y: float, width: float) -> Iterator[tuple[Box, bool]]:
    """Where the name of a point may stand, the best place first, and whether that is far from it."""
    for distance in DISTANCES:
        for angle in ANGLES:
            dx, dy = math.cos(math.radians(angle)), math.sin(math.radians(angle))
            # The side of the text that faces the point lies at `distance`.
            left = x + distance * dx - width * (1 - dx) / 2
            top = y + distance * dy - HEIGHT * (1 - dy) / 2
            yield Box(left, top, left + width, top + HEIGHT), distance > DISTANCES[0]


def _around(x: float, y: float, half: float) -> Box:
    return Box(x - half, y - half, x + half, y + half)


def _along(corners: Sequence[tuple[float, float]]) -> Iterator[tuple[float, float]]:
    """Positions on a polyline, close enough for their squares to touch."""
    for start, end in pairwise(corners):
        count = math.ceil(math.dist(start, end) / (2 * STROKE)) + 1
        yield from zip(
            np.linspace(start[0], end[0], count), np.linspace(start[1], end[1], count), strict=True
        )


def _within(box: Box, area: Box) -> bool:
    across = area.left <= box.left and box.right <= area.right
    return across and area.top <= box.top and box.bottom <= area.bottom


def _text(box: Box, label: str, point: tuple[float, float] | None) -> str:
    middle, base = (box.left + box.right) / 2, box.bottom - 2
    words = f'<text class="label" x="{middle:.1f}" y="{base:.1f}" text-anchor="middle">{escape(label)}</text>'
    if point is None:
        return words
    x = min(max(point[0], box.left), box.right)
    y = min(max(point[1], box.top), box.bottom)
    return f'<path class="leader" d="M{point[0]:.1f},{point[1]:.1f}L{x:.1f},{y:.1f}"/>{words}'
