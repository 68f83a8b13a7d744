"""A run that selects anew from what another one has sampled and scored, without a model."""

from __future__ import annotations

import re

from rayflow.config import as_override, load_config
from rayflow.errors import ConfigError
from rayflow.pipeline.candidates import num_resamples
from rayflow.pipeline.plan import Plan
from rayflow.pipeline.rounds import SHARED
from rayflow.pipeline.run_plan import build_run_plan
from rayflow.pipeline.share import Shelf, share


def reselected(old: Plan, overrides: list[str], name: str | None) -> Plan:
    """The plan of the new run, which lies beside the old one and holds its files up to the scores.

    It also has what else is finished there and would be made anew the same way.

    Args:
        old: the finished run.
        overrides: what to change, "a.b=value".
        name: of the new run; None for one made of the old one's and the changes.

    Raises:
        ArtifactError: the scores are not finished.
        ConfigError: a setting does not fit, would change the sampling or the scores, or asks for new ones.
    """
    for stage in _shared(old):
        old.artifacts[stage].manifest()
    if not overrides:
        raise ConfigError("Say what to change: --beta, --num-accepted, --pairing, or --set select.kind=...")
    root = old.config.root
    name = name or "-".join([old.config.name, *(re.sub(r"[^A-Za-z0-9_-]+", "-", o) for o in overrides)])
    place = [as_override("runs_dir", root.parent), as_override("name", name)]
    plan = build_run_plan(load_config(root / "config.yaml", [*overrides, *place]))
    _check_needs_no_model(old, plan)
    take_over(old, plan)
    shelf = Shelf()  # the rest that a new selection leaves as it is, such as the baseline's answers
    shelf.add(root)
    shelf.fill(plan)
    return plan


def _check_needs_no_model(old: Plan, plan: Plan) -> None:
    """Refuse a selection that nothing stored is enough for."""
    if num_resamples(plan.config):
        raise ConfigError(
            "Selecting again loads no model, so it cannot sample again: add --set select.shortfall=keep or =skip."
        )
    if "score" in plan.stages and "score" not in old.stages:
        raise ConfigError(
            f"{old.config.root} has no rewards, and this selection or pairing reads them. Run it with "
            "--set score=always to have its candidates scored."
        )


def _shared(plan: Plan) -> list[str]:
    return [stage for stage in SHARED if stage in plan.stages]


def take_over(old: Plan, plan: Plan) -> None:
    """Share the stages up to the scores; refuses a plan that would have made them otherwise."""
    for stage in (name for name in _shared(old) if name in plan.stages):
        old.artifacts[stage].check(plan.identities[stage])
        share(old.artifacts[stage], plan.artifacts[stage])
