"""The report's two kinds of chart: overlaid histograms and curves over training steps.

Colours are CSS classes, the same everywhere: `before` (blue, SFT model or all candidates), `after` (orange,
trained model or accepted candidates), `chosen` and `rejected`. Each class also has its own dash or weight,
so that the charts read without colour.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

import numpy as np

from rayflow.report import words
from rayflow.report.curve import Curve, finite, is_noisy, smoothed, thinned
from rayflow.report.svg import LARGEST, Frame, nice_step, percents, plain, ticks
from rayflow.report.values import Histogram, Values, mean_of, size_of

MAX_BINS = 32
BIN_FACTORS = (1, 1.5, 2, 2.5, 3, 4, 5, 6, 8, 10)
"""Bins have finer round widths than ticks, so that their number varies little between runs."""


@dataclass(frozen=True)
class Layer:
    """One distribution or curve of a chart.

    Attributes:
        style: CSS class that colours it.
        label: what the legend says.
        values: the distribution.
    """

    style: str
    label: str
    values: Values


def bin_edges(
    values: Sequence[np.ndarray], *, whole: bool = False, span: tuple[float, float] | None = None
) -> np.ndarray:
    """Round, shared bin edges for several arrays.

    Args:
        values: arrays [n_i], finite, at least one value in all.
        whole: the values are whole numbers, so bins are centred on them.
        span: fixed range, such as (0, 1) for shares.

    Returns:
        [b + 1] float64, increasing, b <= MAX_BINS + 1. Values too large to draw lie beyond the outer ones.
    """
    if span is not None:
        return np.linspace(*span, 21)
    ends = min(v.min() for v in values if v.size), max(v.max() for v in values if v.size)
    low, high = np.clip(np.array(ends, np.float64), -LARGEST, LARGEST).tolist()
    if whole:
        step = max(1.0, math.ceil((high - low + 1) / MAX_BINS)) if high > low else 1.0
        return np.arange(low, high + step + 0.5, step) - 0.5
    # Relative: equal values that differ in the last bit are one value.
    if high - low <= 1e-9 * max(abs(low), abs(high)):
        width = max(abs(low), 1.0) / 20
        return low + width * (np.arange(12) - 5.5)
    step = nice_step(high - low, MAX_BINS, BIN_FACTORS)
    return np.arange(math.floor(low / step), math.floor(high / step) + 2) * step


def histogram(
    layers: Sequence[Layer], x_label: str, *, whole: bool = False, span: tuple[float, float] | None = None
) -> str:
    """Overlaid histograms of shares per bin, each with its mean as a marker on the base line.

    Raises:
        ValueError: pre-binned layers do not share their edges.
    """
    layers = [layer for layer in layers if size_of(layer.values)]
    if not layers:
        return ""
    edges = _edges(layers, whole=whole, span=span)
    shares = [_shares(layer.values, edges) for layer in layers]
    top = max(float(s.max()) for s in shares) * 1.08
    frame = Frame((float(edges[0]), float(edges[-1])), (0.0, top))
    # Whole numbers keep whole ticks even where the range is short.
    columns = [t for t in ticks(*frame.x_range, 7) if t == round(t)] if whole else None
    body = [frame.axes(x_label, x_ticks=columns, x_words=percents if span else plain, y_words=percents)]
    body += [_steps(frame, edges, s, layer.style) for layer, s in zip(layers, shares, strict=True)]
    body += [_mean(frame, layer) for layer in layers]
    body.append(_hover(frame, edges, layers, shares, share_axis=span is not None))
    return frame.wrap("".join(body), f"Histogram of {x_label}: {', '.join(layer.label for layer in layers)}")


def _edges(layers: Sequence[Layer], *, whole: bool, span: tuple[float, float] | None) -> np.ndarray:
    binned = [layer.values.edges for layer in layers if isinstance(layer.values, Histogram)]
    if not binned:
        return bin_edges([_finite(layer.values) for layer in layers], whole=whole, span=span)
    if any(not np.array_equal(edges, binned[0]) for edges in binned):
        raise ValueError(f"histograms drawn together need the same bin edges: {[x.label for x in layers]}")
    return np.asarray(binned[0], np.float64)


def _finite(values: Values) -> np.ndarray:
    array = np.asarray(values, np.float64).ravel()
    return array[np.isfinite(array)]


def _shares(values: Values, edges: np.ndarray) -> np.ndarray:
    """[b] share of the values in each bin; values outside pre-binned edges go to the outer bins."""
    if isinstance(values, Histogram):
        counts = np.asarray(values.counts, np.float64)
    else:
        counts = np.histogram(np.clip(_finite(values), edges[0], edges[-1]), edges)[0].astype(np.float64)
    return counts / max(counts.sum(), 1.0)


def _steps(frame: Frame, edges: np.ndarray, shares: np.ndarray, style: str) -> str:
    """One histogram as filled stairs; empty bins leave the base line to the axis."""
    path, base, before = [], f"{frame.y(0):.1f}", 0.0
    for left, right, share in zip(edges[:-1].tolist(), edges[1:].tolist(), shares.tolist(), strict=True):
        if share and not before:
            path.append(f"M{frame.x(left):.1f},{base}")
        if share:
            path.append(f"V{frame.y(share):.1f}H{frame.x(right):.1f}")
        elif before:
            path.append(f"V{base}")
        before = share
    if before:
        path.append(f"V{base}")
    return f'<path class="fill {style}" d="{"".join(path)}"/>'


def _mean(frame: Frame, layer: Layer) -> str:
    """A dashed line at the mean of a distribution."""
    values = layer.values
    mean = mean_of(values if isinstance(values, Histogram) else _finite(values))
    low, high = frame.x_range
    if not low <= mean <= high:
        return ""
    x, top, base = frame.x(mean), frame.y(frame.y_range[1]), frame.y(0)
    return (
        f'<line class="mean {layer.style}" x1="{x:.1f}" x2="{x:.1f}" y1="{top:.1f}" y2="{base:.1f}"/>'
        f'<path class="marker {layer.style}" d="M{x - 4:.1f},{top:.1f}h8l-4,6z"/>'
    )


def _hover(
    frame: Frame,
    edges: np.ndarray,
    layers: Sequence[Layer],
    shares: Sequence[np.ndarray],
    *,
    share_axis: bool,
) -> str:
    """Invisible bars over the whole height whose tooltip gives the numbers of a bin."""
    parts, top, base = [], frame.y(frame.y_range[1]), frame.y(0)
    word = words.percent if share_axis else words.number
    for i, (left, right) in enumerate(zip(edges[:-1].tolist(), edges[1:].tolist(), strict=True)):
        tip = f"{word(left)} to {word(right)}: " + ", ".join(
            f"{words.percent(float(s[i]))} of {escape(layer.label)}"
            for layer, s in zip(layers, shares, strict=True)
        )
        x = frame.x(left)
        parts.append(
            f'<rect class="hover" x="{x:.1f}" y="{top:.1f}" width="{frame.x(right) - x:.1f}" '
            f'height="{base - top:.1f}"><title>{tip}</title></rect>'
        )
    return "".join(parts)


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
    frame = Frame(_range([c.steps for c in kept]), _height(kept, reference, shares, from_zero), 320.0, 190.0)
    body = [frame.axes("training step", x_ticks=_whole_ticks(frame), y_words=percents if shares else plain)]
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
    return frame.wrap("".join(body), f"Training curves: {', '.join(curve.label for curve in kept)}")


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
