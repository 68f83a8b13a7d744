"""How far raters agree beyond chance: Krippendorff's alpha, for any number of raters and missing ratings.

Row in: what each rater said of each unit. Out: one number, 1 for full agreement, 0 for chance.

The package of that name is under the GPL, which this project's licence cannot take over.
"""

from __future__ import annotations

from typing import Literal

import numpy as np

Level = Literal["nominal", "ordinal", "interval"]


def krippendorff_alpha(ratings: np.ndarray, level: Level) -> float:
    """1 - observed / expected disagreement.

    Args:
        ratings: [raters, units] float64, NaN where a rater has not rated a unit.
        level: "nominal" (labels), "ordinal" (ranks) or "interval" (numbers).

    Returns:
        At most 1; below 0 where raters disagree more than by chance. NaN where nothing can be said: no unit has two
        ratings, or all ratings are the same.

    Source:
        Krippendorff, Computing Krippendorff's Alpha-Reliability (2011), sections C to F.
    """
    told = ~np.isnan(ratings)
    pairable = told & (told.sum(axis=0) >= 2)
    values = np.unique(ratings[pairable])
    if len(values) < 2:
        return float("nan")
    # [units, values] how often each value was given to each unit
    counts = np.stack([((ratings == value) & pairable).sum(axis=0) for value in values], axis=1)
    counts = counts[counts.sum(axis=1) > 0].astype(np.float64)
    sizes = counts.sum(axis=1)
    pairs = np.einsum("ui,uj->uij", counts, counts)
    pairs[:, np.arange(len(values)), np.arange(len(values))] -= counts  # a rating is no pair with itself
    observed = (pairs / (sizes - 1)[:, None, None]).sum(axis=0)
    totals = counts.sum(axis=0)
    expected = (np.outer(totals, totals) - np.diag(totals)) / (totals.sum() - 1)
    distance = _distances(values, totals, level)
    return float(1 - (observed * distance).sum() / (expected * distance).sum())


def _distances(values: np.ndarray, totals: np.ndarray, level: Level) -> np.ndarray:
    """[v, v] squared difference of each two values; of ranks, by how many ratings lie between them."""
    if level == "nominal":
        return 1 - np.eye(len(values))
    if level == "interval":
        return np.subtract.outer(values, values) ** 2
    places = np.cumsum(totals) - totals / 2
    return np.subtract.outer(places, places) ** 2
