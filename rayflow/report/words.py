"""Numbers as a reader wants them: few digits, a unit, and a dash where there is none."""

from __future__ import annotations

import math

_BYTES = ("B", "KiB", "MiB", "GiB", "TiB")
NONE = "–"
_DESCRIBED = ("SFT model", "SFT policy", "targets", "trained model")
_TOLD_APART = ("policy (", "baseline (")


def number(value: float | None) -> str:
    """Three significant digits, thousands separated; whole numbers in full."""
    if value is None or not math.isfinite(value):
        return NONE
    if float(value).is_integer() and abs(value) < 1e15:
        return f"{int(value):,}".replace("-", "−")
    if abs(value) >= 1e15:
        text = f"{value:.1e}".replace("e+", "e")
    elif abs(value) >= 1000:
        text = f"{value:,.0f}"
    elif abs(value) >= 1e-3:
        text = f"{value:.{max(0, 2 - math.floor(math.log10(abs(value))))}f}"
    else:
        text = f"{value:.1e}".replace("e-0", "e-")
    return text.replace("-", "−") if text.startswith("-") else text


def reward(value: float | None, *beside: float | None) -> str:
    """A reward with two decimals where it, or one that stands `beside` it to compare with, is of ordinary size."""
    if value is None or not math.isfinite(value):
        return NONE
    largest = max(abs(each) for each in (value, *beside) if each is not None and math.isfinite(each))
    return fixed(value, 2) if 0.05 <= largest < 1000 or value == 0 else number(value)


def fixed(value: float | None, digits: int) -> str:
    """A number with a given number of decimals, for columns whose values compare at a glance."""
    if value is None or not math.isfinite(value):
        return NONE
    return f"{round(value, digits) + 0.0:,.{digits}f}".replace("-", "−")  # + 0.0: no negative zero


def percent(share: float | None, digits: int = 1) -> str:
    """A share in [0, 1] as a percentage."""
    if share is None or not math.isfinite(share):
        return NONE
    return f"{100 * share:.{digits}f}%".replace("-", "−")


def duration(seconds: float | None) -> str:
    """Wall time in its two largest units."""
    if seconds is None or not math.isfinite(seconds):
        return NONE
    whole = round(seconds)
    if whole < 60:
        return f"{seconds:.1f} s" if seconds < 9.95 else f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    minutes = round(seconds / 60)
    return f"{minutes // 60} h {minutes % 60} min"


def memory(size: float | None) -> str:
    """Bytes in binary units."""
    if size is None:
        return NONE
    power = min(int(math.log(size, 1024)), len(_BYTES) - 1) if size >= 1 else 0
    return f"{size / 1024**power:.{1 if power else 0}f} {_BYTES[power]}"


def the(name: str) -> str:
    """A side of a comparison within a sentence: an article for "SFT policy" or "targets", none for a model's name."""
    described = name in _DESCRIBED or name.startswith(_TOLD_APART)
    return f"the {name}" if described else name


def count(amount: int, noun: str) -> str:
    """`1 prompt`, `12 prompts`."""
    return f"{amount:,} {noun}" if amount == 1 else f"{amount:,} {noun}s"
