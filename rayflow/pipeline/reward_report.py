"""Fills a reward model's report from the artifacts: whatever is committed is shown."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from rayflow.evaluation.reward_quality import Bin, LengthEffect, RewardQuality
from rayflow.pipeline.plan import Plan
from rayflow.pipeline.report import created, failures_of, model_name, timing_of, training_section, versions
from rayflow.pipeline.stages.quality import judged_pairs
from rayflow.report.reward import RewardReport, lead, write_reward_report


def report(plan: Plan) -> tuple[Path, str]:
    """Write `report.html` and `summary.json` into the run's folder.

    Returns:
        The page's path, and the result in a sentence or two.
    """
    data = collect(plan)
    return write_reward_report(data, plan.config.root), lead(data)


def collect(plan: Plan) -> RewardReport:
    """Everything that the report shows."""
    config, done = plan.config, {name: a for name, a in plan.artifacts.items() if a.committed}
    trained = done["train"].manifest().extra if "train" in done else {}
    measured = "evaluate" in done
    sources = [plan.artifacts[name] for name in plan.stages["evaluate"].inputs]
    return RewardReport(
        name=config.name,
        created=created(config),
        kind=config.kind,
        model=model_name(config.model),
        num_rows=done["encode"].manifest().num_rows if "encode" in done else None,
        num_pairs=(trained.get("num_pairs") or trained.get("num_groups")),
        trained=str(plan.artifacts["train"].folder / "model") if trained else None,
        training=training_section(plan, config.train.loss) if trained else None,
        quality=_quality(done["evaluate"].manifest().extra["quality"]) if measured else None,
        pairs=judged_pairs(sources) if measured else None,
        failures=tuple(f for name, artifact in done.items() for f in failures_of(name, artifact)),
        timings=tuple(timing_of(artifact) for artifact in done.values()),
        config_yaml=config.to_yaml(),
        versions=versions(),
    )


def _quality(stored: dict[str, Any]) -> RewardQuality:
    bins = tuple(Bin(**each) for each in stored["bins"])
    return RewardQuality(**{**stored, "bins": bins, "length": LengthEffect(**stored["length"])})
