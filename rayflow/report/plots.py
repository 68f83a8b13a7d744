"""Overlaid histograms (`steps` has the curves over training steps).

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
    first, last = math.floor(low / step), math.floor(high / step) + 1
    # A quotient is rounded: -5e-324 / 2 is zero, and the bin from there on would miss its value.
    return np.arange(first - (first * step > low), last + (last * step < high) + 1) * step


def histogram(
    layers: Sequence[Layer],
    x_label: str,
    *,
    whole: bool = False,
    span: tuple[float, float] | None = None,
    counted: str = "responses",
) -> str:
    """Overlaid histograms of shares per bin, each with its mean as a marker on the base line.

    Args:
        layers: what is overlaid.
        x_label: what the values are.
        whole, span: see `bin_edges`.
        counted: what the shares are of.

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
    body = [
        frame.axes(
            x_label,
            x_ticks=columns,
            x_words=percents if span else plain,
            y_words=percents,
            y_label=f"share of {counted}",
        )
    ]
    body += [_steps(frame, edges, s, layer.style) for layer, s in zip(layers, shares, strict=True)]
    body += [_mean(frame, layer) for layer in layers]
    body.append(_hover(frame, edges, layers, shares, share_axis=span is not None))
    return frame.wrap("".join(body), f"Histogram of {x_label}: {_means(layers, is_share=span is not None)}")


def _means(layers: Sequence[Layer], *, is_share: bool) -> str:
    word = words.percent if is_share else words.number
    return ", ".join(f"{layer.label} with mean {word(mean_of(layer.values))}" for layer in layers)


def only_value(layers: Sequence[Layer], whole: bool) -> float | None:
    """The value that all of the layers' values are, which needs no drawing; None where they differ, or are none.

    Args:
        layers: of a histogram. Bins say it only of whole numbers, where one bin is one value.
        whole: the values are whole numbers.
    """
    found: list[float] = []
    for values in (layer.values for layer in layers if size_of(layer.values)):
        if not isinstance(values, Histogram):
            known = _finite(values)
            found += [float(known.min()), float(known.max())] if known.size else []
        elif whole and np.count_nonzero(values.counts) == 1 and np.ptp(values.edges[:2]) == 1:
            found.append(mean_of(values))
        else:
            return None
    return found[0] if found and max(found) == min(found) else None


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
