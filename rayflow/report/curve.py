"""A curve over training steps, its running mean, and as much of it as a screen shows."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from rayflow.report.svg import LARGEST

MAX_POINTS = 400
"""Points kept of a long training curve, beside its two ends: more than the pixels it is drawn on."""


@dataclass(frozen=True)
class Curve:
    """One curve: `steps` [n] and `values` [n], values that are not finite, or too large to draw, are left out."""

    style: str
    label: str
    steps: np.ndarray
    values: np.ndarray

    def at(self, places: np.ndarray) -> Curve:
        """These of its points."""
        return Curve(self.style, self.label, self.steps[places], self.values[places])


def finite(curve: Curve) -> Curve:
    """The points that can be drawn."""
    return curve.at(np.flatnonzero(np.abs(curve.values) <= LARGEST))  # not so of NaN, either


def thinned(curve: Curve) -> Curve:
    """The lowest and the highest point of each of many equal stretches: a spike of a single step stays."""
    size = curve.values.size
    if size <= MAX_POINTS:
        return curve
    kept = {0, size - 1}
    borders = np.linspace(0, size, MAX_POINTS // 2 + 1).round().astype(int).tolist()
    for start, stop in pairwise(borders):
        part = curve.values[start:stop]
        kept |= {start + int(part.argmin()), start + int(part.argmax())}
    return curve.at(np.array(sorted(kept)))


def smoothed(curve: Curve) -> Curve:
    """Centred running mean over a twelfth of the points, shorter at the ends."""
    size, half = curve.values.size, max(1, curve.values.size // 24)
    sums = np.concatenate([[0.0], np.cumsum(curve.values)])
    start, stop = np.maximum(np.arange(size) - half, 0), np.minimum(np.arange(size) + half + 1, size)
    return Curve(curve.style, curve.label, curve.steps, (sums[stop] - sums[start]) / (stop - start))


def is_noisy(curve: Curve, smooth: Curve) -> bool:
    """Whether a curve needs its running mean `smooth` beside it.

    A schedule is no noise: its running mean would only round off the corners. The range leaves out the outermost
    values, because beside a single spike any noise is small.
    """
    jitter = np.median(np.abs(curve.values - smooth.values))
    low, high = np.percentile(curve.values, [5, 95])
    return bool(curve.values.size > 40 and jitter > 0.01 * (high - low))
