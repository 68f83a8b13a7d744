"""The plan of a run: its stages in order, where each is stored, and what each depends on.

Everything here follows from the configuration alone, before anything is computed: so `--dry-run` can print
it, and a stored stage that another configuration made is noticed before time is spent.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from rayflow.config import RunConfig
from rayflow.core.model_folder import model_digest, resolve_model
from rayflow.core.options import build
from rayflow.core.rows import Example, Prompt
from rayflow.errors import ConfigError
from rayflow.losses.base import needs
from rayflow.pipeline.artifact import Artifact
from rayflow.pipeline.identity import fingerprint
from rayflow.pipeline.prompts import PromptStage
from rayflow.pipeline.stage import ShardStage, ShardWorker, WholeStage
from rayflow.pipeline.stages.encode import EncodeStage
from rayflow.pipeline.stages.evaluate import EvaluateStage
from rayflow.pipeline.stages.pair import PairStage
from rayflow.pipeline.stages.reference import ReferenceStage
from rayflow.pipeline.stages.sample import SampleStage
from rayflow.pipeline.stages.score import ScoreStage
from rayflow.pipeline.stages.select import SelectStage
from rayflow.pipeline.stages.train import TrainStage

Stage = ShardStage | WholeStage


@dataclass(frozen=True)
class Plan:
    """The stages of one run.

    Attributes:
        config: what was asked for.
        steps: in order; a tuple of shard stages runs as one stream, so that a later stage starts while
            earlier shards are still in the one before it.
    """

    config: RunConfig
    steps: tuple[tuple[Stage, ...], ...]

    @cached_property
    def stages(self) -> dict[str, Stage]:
        """All stages by name, in order."""
        return {stage.name: stage for step in self.steps for stage in step}

    @cached_property
    def artifacts(self) -> dict[str, Artifact]:
        """Where each stage is stored: `<root>/<NN>-<name>`."""
        root = self.config.root
        return {name: Artifact(root / f"{i:02d}-{name}") for i, name in enumerate(self.stages, start=1)}

    @cached_property
    def identities(self) -> dict[str, dict[str, Any]]:
        """What each stage is made from: its settings, its models' content, its inputs' fingerprints."""
        found: dict[str, dict[str, Any]] = {}
        for name, stage in self.stages.items():
            found[name] = {
                **stage.identity(),
                "models": [model_digest(model) for model in stage.models],
                "inputs": {source: fingerprint(found[source]) for source in stage.inputs},
            }
        return found

    def worker(self, stage: ShardStage) -> ShardWorker:
        """The worker that runs a shard stage of this plan."""
        # A trained model is a stage's product too, but not one with columns to read.
        sources = [self.artifacts[name] for name in stage.inputs if hasattr(self.stages[name], "writes")]
        return ShardWorker(stage, tuple(sources), self.artifacts[stage.name])

    def dependents(self, names: Iterable[str]) -> list[str]:
        """The named stages and everything that follows from them, in order.

        Raises:
            ConfigError: a name is not a stage of this plan.
        """
        chosen = set(names)
        unknown = chosen - set(self.stages)
        if unknown:
            raise ConfigError(
                f"Unknown stage '{min(unknown)}'. The stages of this run: {', '.join(self.stages)}."
            )
        for name, stage in self.stages.items():
            if chosen.intersection(stage.inputs):
                chosen.add(name)
        return [name for name in self.stages if name in chosen]


def build_plan(config: RunConfig) -> Plan:
    """The stages that a configuration asks for."""
    model = resolve_model(config.model)
    steps = _sampled(config, model) if config.source == "sampled" else _given(config, model)
    groups = ("sample", "score", "select", "pair") if config.source == "sampled" else ("encode",)
    wanted = needs(build("loss", config.train.loss))
    if wanted.reference:
        tokens = ("sample", "select") if config.source == "sampled" else groups
        steps.append(
            (ReferenceStage("reference", tokens, model, config.reference, config.compute.reference),)
        )
    inputs = (
        *(("prompts",) if wanted.targets else ()),
        *groups,
        *(("reference",) if wanted.reference else ()),
    )
    train = TrainStage(
        "train", inputs, model, config.train, config.seed, config.compute.train, config.compute.max_restarts
    )
    steps.append((train,))
    if config.prompts.evaluation is not None:
        number = sum(len(step) for step in steps)
        steps += _evaluation(config, model, trained=Path(config.root, f"{number:02d}-train", "model"))
    return Plan(config, tuple(steps))


def _sampled(config: RunConfig, model: str) -> list[tuple[Stage, ...]]:
    """From prompts to pairs, as one stream."""
    compute = config.compute
    prompts = PromptStage("prompts", config.prompts.train, compute.shard_size)
    sample = _sample(config, "sample", ("prompts",), model)
    score = ScoreStage("score", ("prompts", "sample"), config.reward, compute.score)
    select = SelectStage("select", ("score",), config.select, config.seed, compute.transform)
    pair = PairStage("pair", ("score", "select"), config.pair, config.seed, compute.transform)
    return [(prompts,), (sample, score, select, pair)]


def _given(config: RunConfig, model: str) -> list[tuple[Stage, ...]]:
    """The data's own responses, or its targets."""
    answers = "responses" if config.source == "direct" else "target"
    writes = Example if config.source == "direct" else Prompt
    prompts = PromptStage("prompts", config.prompts.train, config.compute.shard_size, writes=writes)
    encode = EncodeStage("encode", ("prompts",), model, answers, config.compute.encode)
    return [(prompts,), (encode,)]


def _evaluation(config: RunConfig, model: str, trained: Path) -> list[tuple[Stage, ...]]:
    """The trained policy and what it is compared with, each answered and scored, then the verdicts."""
    assert config.prompts.evaluation is not None
    held_out = PromptStage("eval-prompts", config.prompts.evaluation, config.compute.shard_size)
    n, baseline = config.evaluate.num_samples, config.evaluate.baseline
    answers: dict[str, Stage] = {}
    if baseline == "target":
        pool = config.compute.encode
        answers["target"] = EncodeStage("eval-encode-target", ("eval-prompts",), model, "target", pool)
    else:
        answers["sft"] = _sample(config, "eval-sample-sft", ("eval-prompts",), model, n)
    inputs = ("eval-prompts", "train")
    answers["policy"] = _sample(config, "eval-sample-policy", inputs, str(trained), n)
    steps: list[tuple[Stage, ...]] = [(held_out,)]
    for side, stage in answers.items():
        read = ("eval-prompts", stage.name)
        score = ScoreStage(f"eval-score-{side}", read, config.reward, config.compute.score)
        steps.append((stage, score))
    verdict = EvaluateStage(
        "evaluate",
        policy=("eval-prompts", answers["policy"].name, "eval-score-policy"),
        baseline=("eval-prompts", answers[baseline].name, f"eval-score-{baseline}"),
        options=config.evaluate,
        seed=config.seed,
    )
    return [*steps, (verdict,)]


def _sample(
    config: RunConfig, name: str, inputs: tuple[str, ...], model: str, n: int | None = None
) -> SampleStage:
    sampling = config.sample if n is None else config.sample.model_copy(update={"num_candidates": n})
    return SampleStage(
        name=name,
        inputs=inputs,
        model=model,
        engine_options=config.sample.engine,
        sampling=sampling,
        seed=config.seed,
        pool=config.compute.sample,
        model_is_input="train" in inputs,
    )
