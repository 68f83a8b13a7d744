"""The plan of a run: its stages in order, where each is stored, and what each depends on.

Everything here follows from the configuration alone, before anything is computed: so `--dry-run` can print
it, and a stored stage that another configuration made is noticed before time is spent.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from rayflow.config import RunConfig
from rayflow.config.evaluate import EvaluateConfig
from rayflow.config.reward import RewardConfig
from rayflow.core.model_folder import model_digest, resolve_model
from rayflow.core.options import KindOptions, build
from rayflow.core.rows import Example
from rayflow.errors import ConfigError
from rayflow.losses.base import needs
from rayflow.pipeline.amended import Amended, as_written
from rayflow.pipeline.artifact import Artifact
from rayflow.pipeline.candidates import (
    Stage,
    group_stages,
    is_ranked,
    sample_stage,
    sampled_steps,
    score_stage,
)
from rayflow.pipeline.identity import fingerprint
from rayflow.pipeline.prompts import PromptStage
from rayflow.pipeline.stage import ShardStage, ShardWorker
from rayflow.pipeline.stages.compare import CompareStage
from rayflow.pipeline.stages.encode import EncodeStage, EncodeTargetStage
from rayflow.pipeline.stages.evaluate import EvaluateStage
from rayflow.pipeline.stages.reference import ReferenceStage
from rayflow.pipeline.stages.score import GivenScoreStage
from rayflow.pipeline.stages.train import TrainStage, Validation


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


def build_plan(config: RunConfig) -> Plan:
    """The stages that a configuration asks for."""
    model = resolve_model(config.model)
    steps = sampled_steps(config, model) if config.source == "sampled" else _given(config, model)
    groups = group_stages(config) if config.source == "sampled" else _given_groups(config)
    wanted = needs(build("loss", config.train.loss))
    if wanted.reference:
        paired = not wanted.unpaired and (config.source != "sampled" or _leaves_out(config))
        drawn = ("sample", "select", *(("pair",) if paired else ()))
        tokens = drawn if config.source == "sampled" else ("encode",)
        frozen = resolve_model(config.reference.model or config.model)
        reference = ReferenceStage(
            name="reference",
            inputs=tokens,
            model=frozen,
            options=config.reference,
            sampled=config.source == "sampled",
            seed=config.seed,
            pool=config.compute.reference,
            paired=paired,
        )
        steps.append((reference,))
    if wanted.targets:
        steps.append(
            (EncodeTargetStage("encode-target", ("prompts",), model, "target", config.compute.encode),)
        )
    inputs = (
        *(("encode-target",) if wanted.targets else ()),
        *groups,
        *(("reference",) if wanted.reference else ()),
    )
    validation = None
    if config.train.choose is not None:
        steps += (added := _validation(config))
        validation = Validation.of(config, tuple(stage.name for step in added for stage in step))
    train = TrainStage(
        name="train",
        groups=inputs,
        model=model,
        options=config.train,
        seed=config.seed,
        pool=config.compute.train,
        max_restarts=config.compute.max_restarts,
        validation=validation,
    )
    steps.append((train,))
    if config.prompts.evaluation is not None:
        number = sum(len(step) for step in steps)
        steps += _evaluation(config, trained=Path(config.root, f"{number:02d}-train", "model"))
    return Plan(config, tuple(steps))


def _leaves_out(config: RunConfig) -> bool:
    """Whether the pairing takes few of the accepted: if not, runs whose pairs differ share their reference."""
    return getattr(build("pairing", config.pair), "leaves_out", True)


def _given(config: RunConfig, model: str) -> list[tuple[Stage, ...]]:
    """The data's own responses, scored where the loss reads rewards, or its targets."""
    answers = "responses" if config.source == "direct" else "target"
    prompts = PromptStage("prompts", config.prompts.train, config.compute.shard_size, writes=Example)
    # A loss over single responses, such as cross_entropy, knows nothing of preferences: it gets the preferred ones.
    preferred = config.source == "direct" and build("loss", config.train.loss).unit == "responses"
    encode = EncodeStage("encode", ("prompts",), model, answers, config.compute.encode, preferred)
    if "score" not in _given_groups(config):
        return [(prompts,), (encode,)]
    assert config.reward is not None
    score = GivenScoreStage("score", ("prompts",), config.reward, config.compute.score)
    return [(prompts,), (encode, score)]


def _given_groups(config: RunConfig) -> tuple[str, ...]:
    """The stages that together hold the columns of a given group."""
    scored = config.source == "direct" and config.reward is not None
    return ("encode", "score") if scored and needs(build("loss", config.train.loss)).rewards else ("encode",)


def _baseline(config: RunConfig, part: str, side: str, n: int) -> tuple[Stage, ...]:
    """What a trained policy is compared with on the prompts of `part`: answered, and scored."""
    prompts = f"{part}-prompts"
    model = resolve_model(config.evaluate.baseline_model or config.model)
    if side == "target":
        name = f"{part}-encode-target"
        answer: Stage = EncodeStage(name, (prompts,), model, "target", config.compute.encode)
    else:
        answer = sample_stage(config, f"{part}-sample-sft", (prompts,), model, n, "baseline")
    return _scored(config, answer, f"{part}-score-{side}", prompts)


def _validation(config: RunConfig) -> list[tuple[Stage, ...]]:
    """The baseline's answers to the validation prompts, scored where they are compared by their scores."""
    assert config.prompts.validation is not None and config.train.choose is not None
    prompts = PromptStage("valid-prompts", config.prompts.validation, config.compute.shard_size)
    choose = config.train.choose
    return [(prompts,), _baseline(config, "valid", choose.baseline, choose.num_samples)]


def _evaluation(config: RunConfig, trained: Path) -> list[tuple[Stage, ...]]:
    """The trained policy and what it is compared with, each answered and scored, then the verdicts."""
    assert config.prompts.evaluation is not None
    prompts, n = "eval-prompts", config.evaluate.num_samples
    held_out = PromptStage(prompts, config.prompts.evaluation, config.compute.shard_size)
    baseline = _baseline(config, "eval", config.evaluate.baseline, n)
    answer = sample_stage(config, "eval-sample-policy", (prompts, "train"), str(trained), n, "policy")
    policy = _scored(config, answer, "eval-score-policy", prompts)
    ranked = is_ranked(config)
    verdict = EvaluateStage(
        "evaluate",
        policy=(prompts, *(stage.name for stage in policy)),
        baseline=(prompts, *(stage.name for stage in baseline)),
        options=config.evaluate,
        seed=config.seed,
        compared="eval-compare" if ranked else None,
    )
    if ranked:
        read = (prompts, baseline[0].name, answer.name)
        policy += (CompareStage("eval-compare", read, config.reward, config.compute.label),)
    return [(held_out,), baseline, policy, (verdict,)]


def _scored(config: RunConfig, answer: Stage, name: str, prompts: str) -> tuple[Stage, ...]:
    """Answers with their scores; without, if two sides are to be compared by a pairwise reward."""
    if is_ranked(config):
        return (answer,)
    return (answer, score_stage(config, name, (prompts, answer.name)))
