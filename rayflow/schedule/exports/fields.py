"""A cron expression for other readers: what all of them understand alike, or a refusal."""

from __future__ import annotations

from datetime import UTC, datetime

from cronsim import CronSim

from rayflow.errors import ConfigError

_RANGES = {"minutes": (0, 59), "hours": (0, 23), "days": (1, 31), "months": (1, 12), "weekdays": (0, 6)}


def field_sets(cron: str) -> tuple[list[str], list[list[int]]]:
    """The five fields as written, and the values of each, ascending; Sunday is 0.

    Raises:
        ConfigError: a field says "last" or "n-th", which only some readers know.
    """
    parsed = CronSim(cron, datetime(2026, 1, 1, tzinfo=UTC))
    texts = cron.upper().split()
    values: list[list[int]] = []
    for name in _RANGES:
        found = getattr(parsed, name)
        if any(not isinstance(item, int) or item < 0 for item in found):
            raise ConfigError(
                f"The schedule '{cron}' says L, LW or #, which is not understood alike elsewhere. It runs under "
                "`rayflow schedule serve`."
            )
        values.append(sorted({item % 7 for item in found} if name == "weekdays" else found))
    return texts, values


def portable(cron: str) -> str:
    """The expression with the same times for Debian's cron, cronie, Kubernetes and Airflow.

    They differ over Sunday as 7, over `5/10`, and over two day fields of which one is `*/2`: an "and" for some,
    an "or" for others.

    Raises:
        ConfigError: the expression cannot be written so.
    """
    texts, values = field_sets(cron)
    _, _, day, _, weekday = texts
    if day != "*" and weekday != "*" and (day.startswith("*") or weekday.startswith("*")):
        raise ConfigError(
            f"The schedule '{cron}' restricts days of the month and of the week with a step, which other readers "
            "combine otherwise. Write one of the two fields as *."
        )
    every = [list(range(low, high + 1)) for low, high in _RANGES.values()]
    return " ".join(
        text if _is_plain(text) else "*" if found == full and "/" not in text else _listed(found)
        for text, found, full in zip(texts, values, every, strict=True)
    )


def _is_plain(text: str) -> bool:
    """`*`, `*/n`, numbers, and ranges without a step: read alike by all. A 7 may be a Sunday."""
    step = text.removeprefix("*/")
    if text == "*" or (text != step and step.isdigit()):
        return True
    numbers = text.replace(",", " ").replace("-", " ").split()
    return all(number.isdigit() and number != "7" for number in numbers)


def _listed(values: list[int]) -> str:
    return ",".join(map(str, values))
