"""The parts of a run that can be run on their own: sample, score, select, train, evaluate.

A part ends with its last stages and begins after the last stages of the part before it, so that together the
parts are the whole run, whatever stages its configuration asks for.
"""

from __future__ import annotations

from rayflow.errors import ConfigError
from rayflow.pipeline.plan import Plan

PARTS = {
    "sample": ("sample",),
    "score": ("score",),
    "select": ("select", "pair"),
    "train": ("train",),
    "evaluate": ("evaluate",),
}
"""The last stages of each part, in order."""


def stages_of(plan: Plan, only: str | None = None, until: str | None = None) -> list[str] | None:
    """The stages of one part, or of all parts up to one; None means the whole run.

    Raises:
        ConfigError: both are given, there is no such part, or this run has none of its stages.
    """
    if only and until:
        raise ConfigError("Give --only or --until, not both.")
    part = only or until
    if part is None:
        return None
    ends = _ends(plan, part)
    names = list(PARTS)
    before = [stage for name in names[: names.index(part)] for stage in _known(plan, name)]
    done = set(plan.needed(before)) if only else set()
    return [name for name in plan.needed([*ends, *before]) if name not in done]


def _ends(plan: Plan, part: str) -> list[str]:
    if part not in PARTS:
        raise ConfigError(f"Unknown part '{part}'. The parts of a run: {', '.join(PARTS)}.")
    found = _known(plan, part)
    if not found:
        have = [name for name in PARTS if _known(plan, name)]
        raise ConfigError(f"This run has no part '{part}'; its configuration asks for {', '.join(have)}.")
    return found


def _known(plan: Plan, part: str) -> list[str]:
    return [stage for stage in PARTS[part] if stage in plan.stages]
