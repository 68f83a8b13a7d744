"""Does the reward pay for length? Correlation of two numbers per response, within prompts and overall.

Row in: rewards and token counts of a prompt's candidates. Row out: one correlation per prompt.

Within a prompt is what selection acts on; overall mixes in that some prompts call for longer answers.
"""

from __future__ import annotations

import numpy as np


def pearson(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Pearson's correlation along the last axis.

    Args:
        x, y: [..., n] float64, finite.

    Returns:
        [...] float64 in [-1, 1]; NaN where x or y is constant.
    """
    x = x - x.mean(axis=-1, keepdims=True)
    y = y - y.mean(axis=-1, keepdims=True)
    constant = _constant(x) | _constant(y)
    scale = np.sqrt((x * x).sum(axis=-1) * (y * y).sum(axis=-1))
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(constant, np.nan, np.clip((x * y).sum(axis=-1) / scale, -1.0, 1.0))


def spearman(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Spearman's rank correlation along the last axis, ties at their mean rank; as `pearson` otherwise."""
    return pearson(ranks(x), ranks(y))


def ranks(values: np.ndarray) -> np.ndarray:
    """Ranks 1..n along the last axis, equal values sharing the mean of theirs; [..., n] float64."""
    values = np.asarray(values, np.float64)
    flat = values.reshape(-1, values.shape[-1])
    found = np.empty_like(flat)
    for row, out in zip(flat, found, strict=True):
        _, inverse, counts = np.unique(row, return_inverse=True, return_counts=True)
        last = np.cumsum(counts)
        out[:] = (last - (counts - 1) / 2)[inverse]
    return found.reshape(values.shape)


def _constant(values: np.ndarray) -> np.ndarray:
    return values.max(axis=-1) == values.min(axis=-1)
