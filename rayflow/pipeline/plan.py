"""A plan: the stages of a job in order, where each is stored, and what each depends on.

Everything here follows from the configuration alone, before anything is computed: so `--dry-run` can print
it, and a stored stage that another configuration made is noticed before time is spent.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from rayflow.config import RunConfig
from rayflow.config.evaluate import EvaluateConfig
from rayflow.config.reward import RewardConfig
from rayflow.core.model_folder import model_digest
from rayflow.core.options import KindOptions
from rayflow.errors import ConfigError
from rayflow.pipeline.amended import Amended, as_written
from rayflow.pipeline.artifact import Artifact
from rayflow.pipeline.identity import fingerprint
from rayflow.pipeline.stage import ShardStage, ShardWorker, Stage


@dataclass(frozen=True)
class Plan:
    """The stages of one run.

    Attributes:
        config: what was asked for, of a policy, of a reward model or of an evaluation.
        steps: in order; a tuple of shard stages runs as one stream, so that a later stage starts while
            earlier shards are still in the one before it.
    """

    config: RunConfig | RewardConfig | EvaluateConfig
    steps: tuple[tuple[Stage, ...], ...]

    @cached_property
    def stages(self) -> dict[str, Stage]:
        """All stages by name, in order."""
        return {stage.name: stage for step in self.steps for stage in step}

    @cached_property
    def artifacts(self) -> dict[str, Artifact]:
        """Where each stage is stored, `<root>/<NN>-<name>`, to be read as the whole run leaves it."""
        root = self.config.root
        alone = {name: Artifact(root / f"{i:02d}-{name}") for i, name in enumerate(self.stages, start=1)}
        return {name: self._as_seen_by(None, name, alone) for name in alone}

    def _as_seen_by(self, reader: str | None, name: str, artifacts: dict[str, Artifact]) -> Artifact:
        """A stage's artifact with what has amended it until `reader` runs; with everything for None."""
        by = tuple(as_written(artifacts[other]) for other in self._amending(name, reader))
        return Amended(artifacts[name].folder, by) if by else as_written(artifacts[name])

    def _amending(self, name: str, reader: str | None) -> list[str]:
        """The stages whose rows take the place of a stage's, in order; those before `reader`, if it is given."""
        earlier = itertools.takewhile(lambda other: other != reader, self.stages)
        return [other for other in earlier if amended(self.stages[other]) == name]

    def inputs(self, stage: Stage) -> tuple[str, ...]:
        """What a stage depends on: what it reads, and what has amended that."""
        return (*stage.inputs, *(a for name in stage.inputs for a in self._amending(name, stage.name)))

    @cached_property
    def identities(self) -> dict[str, dict[str, Any]]:
        """What each stage is made from: its settings, its models' content, its inputs' fingerprints."""
        found: dict[str, dict[str, Any]] = {}
        for name, stage in self.stages.items():
            found[name] = {
                **stage.identity(),
                "models": [model_digest(model) for model in stage.models],
                "inputs": {source: fingerprint(found[source]) for source in self.inputs(stage)},
            }
        return found

    def worker(self, stage: ShardStage) -> ShardWorker:
        """The worker that runs a shard stage of this plan."""
        # A trained model is a stage's product too, but not one with columns to read.
        sources = [name for name in stage.inputs if hasattr(self.stages[name], "writes")]
        seen = tuple(self._as_seen_by(stage.name, name, self.artifacts) for name in sources)
        return ShardWorker(stage, seen, self.artifacts[stage.name], self.identities[stage.name])

    def dependents(self, names: Iterable[str]) -> list[str]:
        """The named stages, those that apply the same reward, and everything that follows from them, in order.

        Whoever forces a scoring stage has changed what the reward does, such as a function's code, which no
        fingerprint holds: what it has scored elsewhere, such as the baseline's answers, is as old.

        Raises:
            ConfigError: a name is not a stage of this plan.
        """
        chosen = set(names)
        unknown = chosen - set(self.stages)
        if unknown:
            raise ConfigError(
                f"Unknown stage '{min(unknown)}'. The stages of this run: {', '.join(self.stages)}."
            )
        rewards = self._rewards()
        forced = [rewards[name] for name in chosen if name in rewards]
        for name, stage in self.stages.items():
            if chosen.intersection(self.inputs(stage)) or rewards.get(name) in forced:
                chosen.add(name)
        return [name for name in self.stages if name in chosen]

    def _rewards(self) -> dict[str, KindOptions]:
        """The reward of every stage that applies one."""
        found = {name: getattr(stage, "reward_options", None) for name, stage in self.stages.items()}
        return {name: options for name, options in found.items() if options is not None}

    def needed(self, names: Iterable[str]) -> list[str]:
        """The named stages of this plan and everything that they are made from, in order."""
        chosen = set(names)
        for name, stage in reversed(self.stages.items()):
            if name in chosen:
                chosen.update(self.inputs(stage))
        return [name for name in self.stages if name in chosen]


def amended(stage: Stage) -> str | None:
    """The stage whose rows this one's take the place of, if it is one that amends."""
    return getattr(stage, "amends", None)


def check_before(plan: Plan, stage: Stage) -> None:
    """Ask the stages before one whether anything can come of what they have made.

    Raises:
        StageError: which one has made nothing to go on with.
    """
    for earlier in itertools.takewhile(lambda other: other.name != stage.name, plan.stages.values()):
        if hasattr(earlier, "check_all"):
            earlier.check_all(plan.artifacts[earlier.name])
