"""What `--dry-run` shows: the stages of a plan, with their workers, where these would run, and what is stored."""

from __future__ import annotations

import os
from collections.abc import Collection

from rich.console import Console
from rich.table import Table

from rayflow.core.verbatim import verbatim
from rayflow.pipeline.placement import place
from rayflow.pipeline.plan import Plan
from rayflow.pipeline.preflight import unseen_models
from rayflow.pipeline.stage import Stage


def print_plan(
    plan: Plan, console: Console, redo: Collection[str] = (), only: Collection[str] | None = None
) -> None:
    """Print the stages of a plan as a table.

    Args:
        plan: all of it.
        console: for the person who asks.
        redo: stages to make anew even where they are stored.
        only: stages to show; all if None.

    Raises:
        ArtifactError: a stored stage was made from another configuration.
    """
    placed = place(plan)
    # The path as it would be typed; not as the table's title, where a long one is broken at the table's width.
    console.print(
        f"[bold]{plan.config.name}[/]: {verbatim(os.path.normpath(plan.config.root))}", soft_wrap=True
    )
    table = Table(box=None, pad_edge=False)
    for heading in ("stage", "", "reads", "workers", "each", *(("on",) if placed else ()), "state"):
        table.add_column(heading, no_wrap=heading in ("stage", "", "each", "state"))
    shown = [[stage for stage in step if only is None or stage.name in only] for step in plan.steps]
    for step in shown:
        for place_in_step, stage in enumerate(step):
            workers, each, on = _workers(stage, placed.get(stage.name, {}))
            table.add_row(
                plan.artifacts[stage.name].folder.name,
                _bracket(place_in_step, len(step)),
                ", ".join(_number(plan, name) for name in stage.inputs),
                *(workers, each, *((on,) if placed else ())),
                _state(plan, stage, stage.name in redo),
            )
    console.print(table)
    if any(len(step) > 1 for step in shown):
        console.print("Stages in one bracket run at the same time, shard by shard.")


def _bracket(place: int, total: int) -> str:
    """A line beside the stages that run as one stream."""
    if total == 1:
        return ""
    return "┐" if place == 0 else "┘" if place == total - 1 else "│"


def _number(plan: Plan, name: str) -> str:
    """What a stage's folder begins with, which is shorter than its name and as clear beside the list."""
    return plan.artifacts[name].folder.name.split("-", 1)[0]


def say_first_of(num_rounds: int, console: Console) -> None:
    """What a dry run of several rounds begins with: whose plan is shown."""
    told = f"Round 1 of {num_rounds}. The others were checked too, and each starts from the policy before it."
    console.print(told, soft_wrap=True, highlight=False)


def say_unchecked(plan: Plan, console: Console) -> None:
    """What a dry run ends with: what it could not look at, and that it has started nothing."""
    for model in unseen_models(plan):
        told = f"The hub could not be reached: {model} was not looked up."
        console.print(told, soft_wrap=True, markup=False)
    address = plan.config.compute.address
    asked = f" Whether a cluster answers at {address} (compute.address) was not asked." if address else ""
    console.print(f"Nothing was started.{asked}", soft_wrap=True, markup=False)


def _workers(stage: Stage, found: dict[str, int]) -> tuple[str, str, str]:
    """How many workers a stage has, what each reserves, and on which groups of machines they would be."""
    pool = getattr(stage, "pool", None)
    if pool is None:
        return "driver", "", "driver"
    actors = getattr(stage, "actor", True)
    each = f"{pool.num_cpus:g} CPU" + (f", {pool.num_gpus:g} GPU" if pool.num_gpus else "")
    on = ", ".join(f"{count} {group}" if actors else group for group, count in found.items())
    return str(pool.num_workers) if actors else "tasks", each, on or "driver"


def _state(plan: Plan, stage: Stage, redo: bool) -> str:
    artifact = plan.artifacts[stage.name]
    if redo:
        return "to do again" if artifact.identity else "to do"
    artifact.check(plan.identities[stage.name])
    return "stored" if artifact.committed else "begun" if artifact.identity else "to do"
