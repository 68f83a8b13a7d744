"""What `--dry-run` shows: the stages of a plan, with their workers, where these would run, and what is stored."""

from __future__ import annotations

from collections.abc import Collection

from rich.console import Console
from rich.table import Table

from rayflow.pipeline.execute import is_sharded
from rayflow.pipeline.placement import place
from rayflow.pipeline.plan import Plan
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
    title = f"{plan.config.name}: {plan.config.root}"
    table = Table(title=title, title_justify="left", box=None, pad_edge=False)
    for heading in ("stage", "reads", "workers", "each", *(("on",) if placed else ()), "state"):
        table.add_column(heading)
    for number, step in enumerate(plan.steps, start=1):
        for stage in (each for each in step if only is None or each.name in only):
            name = plan.artifacts[stage.name].folder.name + (
                f"  (stream {number})" if is_sharded(stage) else ""
            )
            workers, each, on = _workers(stage, placed.get(stage.name, {}))
            where = (on,) if placed else ()
            state = _state(plan, stage, stage.name in redo)
            table.add_row(name, ", ".join(stage.inputs), workers, each, *where, state)
    console.print(table)


def _workers(stage: Stage, found: dict[str, int]) -> tuple[str, str, str]:
    """How many workers a stage has, what each reserves, and on which groups of machines they would be."""
    pool = getattr(stage, "pool", None)
    if pool is None:
        return "driver", "", "driver"
    actors = getattr(stage, "actor", True)
    each = f"{pool.num_cpus:g} CPU, {pool.num_gpus:g} GPU"
    on = ", ".join(f"{count} {group}" if actors else group for group, count in found.items())
    return str(pool.num_workers) if actors else "tasks", each, on or "driver"


def _state(plan: Plan, stage: Stage, redo: bool) -> str:
    artifact = plan.artifacts[stage.name]
    if redo:
        return "to do again" if artifact.identity else "to do"
    artifact.check(plan.identities[stage.name])
    return "stored" if artifact.committed else "begun" if artifact.identity else "to do"
