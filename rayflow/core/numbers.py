"""Numbers that somebody else has written."""

from __future__ import annotations


def as_float(value: int | float) -> float:
    """The number as float64; one that is too large for it is infinite, where Python's own `float` raises."""
    try:
        return float(value)
    except OverflowError:
        return float("inf") if value > 0 else float("-inf")
