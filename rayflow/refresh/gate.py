"""Whether a version may be given to readers: every check with its number, its limit and its noise. Pure functions.

A number that comes from a sample of prompts passes its limit by chance now and then, most of all on a day with few
new prompts; so a check fails only where the number is beyond the limit by more than its 95% noise.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from typing import Any

from rayflow.config.refresh import GateOptions
from rayflow.refresh.measure import Mean, Measures
from rayflow.report import words

Z = 1.96
KOLMOGOROV = 1.358
"""95% quantile of the Kolmogorov distribution."""
SCOPES = {"whole": "the whole table", "fresh": "the new rows"}


@dataclass(frozen=True)
class Evidence:
    """What the gate knows.

    Attributes:
        whole: numbers of the new version.
        fresh: of its rows that the last promoted version lacks; None without such a version, or if they are all.
        before: of the last promoted version; None before the first.
        version: the number of that version.
        distances: Kolmogorov-Smirnov distances of the rewards, by scope.
        wanted, failed: prompts that the table should have, and those of them that could not be computed.
        lost: share of the last version's prompts that are gone.
        reward_changed: whether another reward made the last version's rows.
    """

    whole: Measures
    fresh: Measures | None = None
    before: Measures | None = None
    version: int | None = None
    distances: dict[str, float] = field(default_factory=dict)
    wanted: int = 0
    failed: int = 0
    lost: float = 0.0
    reward_changed: bool = False

    @property
    def scopes(self) -> dict[str, Measures]:
        """The sets of rows that are looked at."""
        return {"whole": self.whole} | ({} if self.fresh is None else {"fresh": self.fresh})


@dataclass(frozen=True)
class Verdict:
    """One check.

    Attributes:
        check: its setting's name, such as "max_reward_shift".
        scope: "whole" or "fresh".
        value: the number; None where it could not be had.
        limit: what it may be.
        noise: half-width of its 95% interval; None where that is infinite, 0 for what was counted.
        passed: whether it is within the limit, given the noise.
        reason: a sentence if it is not.
    """

    check: str
    scope: str
    value: float | None
    limit: float
    noise: float | None
    passed: bool
    reason: str = ""

    def to_dict(self) -> dict[str, Any]:
        """As JSON."""
        return asdict(self)


def judge(options: GateOptions, seen: Evidence) -> list[Verdict]:
    """Every check that is switched on and can be made."""
    if not seen.whole.rows:  # nothing else can be said of an empty table
        return [*_counts(options, seen)]
    return [*_counts(options, seen), *_levels(options, seen), *_drifts(options, seen)]


def _counts(options: GateOptions, seen: Evidence) -> Iterator[Verdict]:
    """What was counted, not estimated."""
    if options.min_rows is not None:
        rows, least = seen.whole.rows, options.min_rows
        reason = f"The table has {words.count(rows, 'row')}; at least {least:,} are wanted."
        yield _verdict("min_rows", "whole", rows, least, 0.0, reason)
    if options.max_failure_rate is not None and seen.wanted:
        share = seen.failed / seen.wanted
        reason = f"{seen.failed:,} of {words.count(seen.wanted, 'prompt')} could not be computed"
        yield _verdict("max_failure_rate", "whole", share, options.max_failure_rate, 0.0, reason, "share")
    if options.max_lost is not None and seen.before is not None:
        reason = f"{words.percent(seen.lost)} of the prompts of version {seen.version} are gone"
        yield _verdict("max_lost", "whole", seen.lost, options.max_lost, 0.0, reason, "share")


def _levels(options: GateOptions, seen: Evidence) -> Iterator[Verdict]:
    """Means that must lie on the right side of a limit."""
    for scope, found in seen.scopes.items():
        where = SCOPES[scope]
        checks: tuple[tuple[str, Mean, str], ...] = (
            ("min_acceptance_rate", found.acceptance, "Selection accepted {} of its visits in"),
            ("max_acceptance_rate", found.acceptance, "Selection accepted {} of its visits in"),
            ("min_distinct", found.distinct, "Only {} of a prompt's candidates are different texts in"),
            ("min_paired", found.paired, "Only {} of the prompts have a pair in"),
        )
        for name, mean, sentence in checks:
            limit = getattr(options, name)
            if limit is not None:
                reason = f"{sentence.format(words.percent(mean.value))} {where}"
                yield _verdict(name, scope, mean.value, limit, Z * mean.error, reason, "share")


def _drifts(options: GateOptions, seen: Evidence) -> Iterator[Verdict]:
    """How far the version is from the last promoted one."""
    before = seen.before
    if before is None or not before.rows:
        return
    since = f"since version {seen.version}"
    unit = before.reward_deviation or 1e-9 * max(1.0, abs(before.reward.value))
    other = " (another reward made its rows, so the two may not compare)" if seen.reward_changed else ""
    for scope, found in seen.scopes.items():
        where = SCOPES[scope]
        if options.max_reward_shift is not None:
            shift, noise = _change(found.reward, before.reward, unit)
            size = f"{words.number(abs(shift))} standard deviations"
            reason = f"The mean reward of {where} moved by {size} {since}{other}"
            yield _verdict("max_reward_shift", scope, abs(shift), options.max_reward_shift, noise, reason)
        if options.max_reward_distance is not None and scope in seen.distances:
            distance = seen.distances[scope]
            noise = KOLMOGOROV * math.sqrt(1 / found.rows + 1 / before.rows)
            reason = f"The rewards of {where} are distributed otherwise than those of version {seen.version}{other}"
            reason += f": the distance is {words.number(distance)}"
            yield _verdict("max_reward_distance", scope, distance, options.max_reward_distance, noise, reason)
        if options.max_length_drift is not None:
            drift, noise = _change(found.tokens, before.tokens, before.tokens.value or 1.0)
            way = "longer" if drift > 0 else "shorter"
            reason = f"The responses of {where} became {words.percent(abs(drift))} {way} {since}"
            yield _verdict(
                "max_length_drift", scope, abs(drift), options.max_length_drift, noise, reason, "share"
            )


def _change(after: Mean, before: Mean, unit: float) -> tuple[float, float]:
    """Difference of two means, and its noise, in `unit`."""
    return (after.value - before.value) / unit, Z * math.hypot(after.error, before.error) / unit


def _verdict(
    check: str, scope: str, value: float, limit: float, noise: float, reason: str, kind: str = "number"
) -> Verdict:
    """Compare; the reason gets the limit and the noise, if it is needed."""
    beyond = limit - value if check.startswith("min_") else value - limit
    passed = not beyond > noise
    word = words.percent if kind == "share" else words.number
    if not passed and not reason.endswith("."):
        side = "at least" if check.startswith("min_") else "at most"
        within = f", give or take {word(noise)}" if noise else ""
        reason = f"{reason}; {side} {word(limit)} is allowed{within}."
    return Verdict(
        check=check,
        scope=scope,
        value=value if math.isfinite(value) else None,
        limit=limit,
        noise=noise if math.isfinite(noise) else None,
        passed=passed,
        reason="" if passed else reason,
    )
