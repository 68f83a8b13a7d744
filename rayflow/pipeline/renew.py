"""What a later round must make anew, because an earlier one is no longer what it was made from.

Told by what is stored, not by what this call has done: a call that was killed between two rounds leaves nothing
that the next one could take for up to date.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from rayflow.config import RunConfig
from rayflow.pipeline.execute import make_way, open_run
from rayflow.pipeline.folders import stored_config
from rayflow.pipeline.plan import Plan
from rayflow.pipeline.preflight import preflight
from rayflow.pipeline.reselect import take_over
from rayflow.pipeline.rounds import SHARED
from rayflow.pipeline.run_plan import build_run_plan
from rayflow.pipeline.share import remade


def renew(plan: Plan, first: Plan | None, force: Sequence[str], console: Console) -> None:
    """Make way in a later round for what is to be redone, and share the first round's samples and scores.

    Args:
        plan: the round's; the rounds before it are finished.
        first: the first round's, if its samples and scores are this round's too; None if it has its own.
        force: stages to redo in every round.
        console: for the person who waits.

    Raises:
        ArtifactError: another configuration made what is stored; nothing was set aside.
    """
    preflight(plan)
    shared = () if first is None else SHARED  # forced, they were made anew in the first round, for all
    forced = [name for name in force if name in plan.stages and name not in shared]
    with open_run(plan.config):
        old = outdated(plan, first)
        redo = plan.dependents([*forced, *old])
        if old:
            console.print(f"[yellow]Made anew, as an earlier round has changed:[/] {', '.join(redo)}.")
        make_way(plan, redo)
        if first is not None:
            take_over(first, plan)


def outdated(plan: Plan, first: Plan | None) -> list[str]:
    """Stored stages that were made with an earlier round's former policy, or from the first round's former scores.

    Args:
        plan, first: see `renew`.
    """
    found = [name for name in plan.stages if _has_former_policy(plan, name)]
    if first is not None:
        found += remade(first, plan, SHARED)
    return found


def _has_former_policy(plan: Plan, name: str) -> bool:
    """Whether a stored stage was made with a policy of an earlier round that has been trained anew since.

    A stage that a changed configuration gives another model is no such stage: that is refused, as any other change.
    """
    stored, stage = plan.artifacts[name].identity, plan.stages[name]
    if stored is None:
        return False
    digests = zip(stage.models, stored["models"], plan.identities[name]["models"], strict=False)
    changed = [i for i, (_, before, now) in enumerate(digests) if before != now]
    made_by = [_round_of(model, plan) for model in stage.models]
    if not any(made_by[i] for i in changed):
        return False
    before = build_run_plan(stored_config(plan.config.root, RunConfig)).stages.get(name)
    models = before.models if before is not None else ()
    return any(i < len(models) and made_by[i] and _round_in(models[i]) == made_by[i] for i in changed)


def _round_of(model: str, plan: Plan) -> str | None:
    """The round beside a round's folder that has trained a model; None for a model from elsewhere."""
    beside = Path(model).is_relative_to(plan.config.root.parent)
    return _round_in(model) if beside else None


def _round_in(model: str) -> str | None:
    """The round's folder in the path of a trained model, `round-1/07-train/model`: the run may have been moved."""
    parts = Path(model).parts
    return parts[-3] if len(parts) > 2 and parts[-3].startswith("round-") else None
