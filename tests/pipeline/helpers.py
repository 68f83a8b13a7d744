"""Running the stages up to the pairs, which need no model, and reading what they stored."""

from __future__ import annotations

import io
from typing import Any

from rich.console import Console

from rayflow.config import RunConfig
from rayflow.pipeline.execute import Pipeline
from rayflow.pipeline.plan import Plan
from rayflow.pipeline.run_plan import build_run_plan
from rayflow.pipeline.runner import LocalRunner, Runner

DATA_STAGES = ("prompts", "sample", "score", "select", "pair")


def with_settings(settings: dict, **changes: object) -> RunConfig:
    """A configuration with some of its blocks replaced."""
    return RunConfig.model_validate({**settings, **changes})


def data_plan(config: RunConfig) -> Plan:
    """The plan up to the pairs."""
    plan = build_run_plan(config)
    return Plan(config, tuple(step for step in plan.steps if step[-1].name in (*DATA_STAGES, "range")))


def run_data(
    config: RunConfig, force: tuple[str, ...] = (), runner: Runner | None = None
) -> tuple[Plan, str]:
    """Run those stages; returns the plan and what was printed."""
    text = io.StringIO()
    plan = data_plan(config)
    Pipeline(plan, runner or LocalRunner(config.compute), Console(file=text, width=150)).run(force)
    return plan, text.getvalue()


def tables(plan: Plan) -> dict[str, list[dict[str, Any]]]:
    """Every stage's rows in order."""
    return {
        name: [row for i in range(artifact.num_shards) for row in artifact.shards.read(i).to_pylist()]
        for name, artifact in plan.artifacts.items()
    }
