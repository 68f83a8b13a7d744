"""A run that selects anew from what another one has sampled and scored, without a model."""

from __future__ import annotations

import re

from rayflow.config import as_override, load_config
from rayflow.errors import ArtifactError, ConfigError
from rayflow.pipeline.candidates import num_resamples
from rayflow.pipeline.execute import make_way, open_run
from rayflow.pipeline.plan import Plan
from rayflow.pipeline.rounds import SHARED
from rayflow.pipeline.run_plan import build_run_plan
from rayflow.pipeline.share import Shelf, remade, share

_PLACE = ("name=", "runs_dir=")
"""Settings that say where the new run lies, and change nothing in it."""


def reselected(old: Plan, overrides: list[str], name: str | None) -> Plan:
    """The plan of the new run, which lies beside the old one and holds its files up to the scores.

    It also has what else is finished there and would be made anew the same way.

    Args:
        old: the finished run.
        overrides: what to change, "a.b=value"; `name` and `runs_dir` say where the new run lies.
        name: of the new run; None for that of the overrides, or one made of the old one's and the changes.

    Raises:
        ArtifactError: the scores are not finished, or the new run's folder holds another selection.
        ConfigError: a setting does not fit, would change the sampling or the scores, or asks for new ones.
    """
    for stage in _shared(old):
        old.artifacts[stage].manifest()
    changes = [each for each in overrides if not each.startswith(_PLACE)]
    if not changes:
        raise ConfigError("Say what to change: --beta, --num-accepted, --pairing, or --set select.kind=...")
    root = old.config.root
    made = "-".join([old.config.name, *(re.sub(r"[^A-Za-z0-9_-]+", "-", each) for each in changes)])
    beside = [as_override("runs_dir", root.parent), as_override("name", made)]
    named = [] if name is None else [as_override("name", name)]
    plan = build_run_plan(load_config(root / "config.yaml", [*beside, *overrides, *named]))
    _check_needs_no_model(old, plan)
    _check_keeps_scores(old, plan)
    _check_place(old, plan)
    shelf = Shelf()  # the rest that a new selection leaves as it is, such as the baseline's answers
    shelf.add(root)
    with open_run(plan.config):
        # The run may have been sampled or scored anew since it was last selected from.
        make_way(plan, plan.dependents(remade(old, plan, _shared(old))))
        take_over(old, plan)
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


def _check_keeps_scores(old: Plan, plan: Plan) -> None:
    """Refuse, before anything is written, what would change the stages that are taken over."""
    root = old.config.root
    for stage in (name for name in _shared(old) if name in plan.stages):
        if changes := old.artifacts[stage].changes(plan.identities[stage]):
            raise ConfigError(
                f"`rayflow select` cannot change prompts, sampling or scores, and this would change {stage} of "
                f"{root}:\n{changes}\nLeave that setting out, or make them anew: rayflow run {root} --set name=NEW "
                "--set ..."
            )


def _check_place(old: Plan, plan: Plan) -> None:
    """Refuse a folder that holds something else: a selection is a run of its own."""
    root = plan.config.root
    if root.absolute() == old.config.root.absolute():
        raise ConfigError(f"{root} is the run to select from. Give the new one another name: --name NAME.")
    for stage, artifact in plan.artifacts.items():
        if changes := artifact.changes(plan.identities[stage]):
            raise ArtifactError(
                f"{artifact.folder} was made from another configuration:\n{changes}\n"
                "Give the new run another name: --name NAME."
            )


def _shared(plan: Plan) -> list[str]:
    return [stage for stage in SHARED if stage in plan.stages]


def take_over(old: Plan, plan: Plan) -> None:
    """Share the stages up to the scores; refuses, before the first, a plan that would have made them otherwise."""
    taken = [name for name in _shared(old) if name in plan.stages]
    for stage in taken:
        old.artifacts[stage].check(plan.identities[stage])
    for stage in taken:
        share(old.artifacts[stage], plan.artifacts[stage])
