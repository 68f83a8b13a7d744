"""What a row of the table was made from, and the run that makes new ones.

A row is up to date when its prompt's content and the four parts of its recipe are those of today; each part
is the fingerprint of a stage's own identity (settings and models' content), so that hardware never counts and
a changed weight always does.
"""

from __future__ import annotations

import re
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from rayflow.config import RunConfig
from rayflow.config.refresh import RefreshConfig
from rayflow.core.model_folder import model_digest
from rayflow.core.rows import Prompt
from rayflow.errors import ArtifactError, ConfigError
from rayflow.pipeline.identity import fingerprint
from rayflow.pipeline.plan import Plan
from rayflow.pipeline.run_plan import build_run_plan

STAGES = ("prompts", "sample", "score", "select", "pair")
TODO_LAYOUT = "rayflow.refresh.todo:Todo"


@dataclass(frozen=True)
class Recipe:
    """What all rows that are computed today have in common.

    Attributes:
        policy: name and content of the model that samples, such as "SmolLM2-1a2b3c4d5e6f"; the name is for people.
        sampling: engine, settings and seed.
        reward: the reward's settings and models.
        selection: selection and pairing.
    """

    policy: str
    sampling: str
    reward: str
    selection: str

    def changed_part(self, other: Recipe) -> str | None:
        """The first part in which another recipe differs; None if it is the same."""
        mine, others = self.identity(), other.identity()
        return next((name for name in mine if mine[name] != others[name]), None)

    def identity(self) -> dict[str, str]:
        """By part what decides the rows: of the policy its content alone, whatever its folder is called."""
        return self.to_dict() | {"policy": self.policy.rpartition("-")[2]}

    def to_dict(self) -> dict[str, str]:
        """As JSON."""
        return asdict(self)


PARTS = tuple(each.name for each in fields(Recipe))


def settings_of(plan: Plan) -> dict[str, dict[str, Any]]:
    """What each part of the recipe is made of, by its name in `Recipe`; the prompts' file is no part of it.

    Raises:
        ConfigError: a row would depend on the other rows of its day.
    """
    if "range" in plan.stages:
        raise ConfigError(
            "select.low and select.high: give them as numbers. A refresh computes some prompts each day, and the "
            "range of a day's rewards would make equal rewards unequal from one day to the next."
        )

    def part(*names: str) -> dict[str, Any]:
        found = {}
        for name in names:
            stage = plan.stages[name]
            found[name] = {**stage.identity(), "models": [model_digest(model) for model in stage.models]}
        return found

    sample = plan.stages["sample"]
    return {
        "policy": {"model": sample.model, "content": model_digest(sample.model)},
        "sampling": {"sample": sample.identity()},
        "reward": part("score"),
        "selection": part("select", "pair"),
    }


def recipe_of(settings: dict[str, dict[str, Any]]) -> Recipe:
    """The recipe of a plan's settings (see `settings_of`)."""
    prints = {name: fingerprint(made_of) for name, made_of in settings.items() if name != "policy"}
    return Recipe(policy=_policy_name(**settings["policy"]), **prints)


def _policy_name(model: str, content: Any) -> str:
    """Readable, and fit for the name of a folder: partitions are folders."""
    name = re.sub(r"[^A-Za-z0-9._-]", "-", Path(model).name) or "model"
    return f"{name}-{fingerprint({'model': content})[:12]}"


def content_of(prompt: Prompt) -> str:
    """Hash of everything that a row has from its prompt: a reward may read the target."""
    return fingerprint({"prompt": prompt.prompt_id, "target": prompt.target})


def data_plan(config: RefreshConfig, folder: Path, todo: Path) -> Plan:
    """The stages up to the pairs, as a run of their own over the prompts that must be computed.

    Args:
        config: what was asked for.
        folder: where the run goes.
        todo: the prompts, as `todo` writes them.
    """
    # Failures are the gate's to judge: it sees them beside the rows that need not be computed.
    plan = build_run_plan(run_config(config, folder, {"max_failed_fraction": 1.0}, todo))
    last = next(i for i, step in enumerate(plan.steps) if step[-1].name == STAGES[-1])
    return Plan(plan.config, plan.steps[: last + 1])


def run_config(config: RefreshConfig, folder: Path, settings: dict, todo: Path) -> RunConfig:
    """The refresh's configuration as that of a run in `folder` that only samples, scores, selects and pairs."""
    data = config.model_dump(mode="json", exclude={"refresh"})
    data |= {"name": folder.name, "runs_dir": str(folder.parent), **settings}
    data["prompts"] = {"train": {"path": str(todo), "layout": {"kind": TODO_LAYOUT}}}
    data["train"]["choose"] = None
    return RunConfig.model_validate(data)


def check_rows(num_rows: int, num_todo: int) -> None:
    """Refuse to go on with other prompts than were chosen.

    Raises:
        ArtifactError: the run read another number of prompts than were written for it.
    """
    if num_rows != num_todo:
        raise ArtifactError(f"{num_todo} prompts were chosen to be computed, but the run has {num_rows}.")
