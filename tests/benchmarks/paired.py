"""Ratios of two sides that were measured in turn."""

from __future__ import annotations

import statistics
from collections.abc import Sequence


def ratios(first: Sequence[float], second: Sequence[float]) -> list[float]:
    """first / second of each repeat.

    A machine's speed drifts over minutes, so two measurements that follow each other compare better than two
    medians over the whole run.
    """
    return [a / b for a, b in zip(first, second, strict=True)]


def compared(first: Sequence[float], second: Sequence[float], to: str = "") -> dict[str, object]:
    """`ratio`, the median of `ratios`, and these, rounded; `to` names the other side in their keys."""
    found = ratios(first, second)
    suffix = f"_to_{to}" if to else ""
    return {
        f"ratio{suffix}": round(statistics.median(found), 3),
        f"ratios{suffix}": [round(value, 3) for value in found],
    }
