"""The plan of a run: prompts, candidates, scores, selection, pairs, reference, training, evaluation.

Which of these there are follows from the source of the responses and from what the loss asks for.
"""

from __future__ import annotations

from pathlib import Path

from rayflow.config import RunConfig
from rayflow.core.given_rows import Example
from rayflow.core.model_folder import resolve_model
from rayflow.core.options import build
from rayflow.losses.base import Needs, needs
from rayflow.pipeline.candidates import (
    group_stages,
    is_ranked,
    sample_stage,
    sampled_steps,
    score_stage,
)
from rayflow.pipeline.plan import Plan
from rayflow.pipeline.prompts import PromptStage
from rayflow.pipeline.stage import Stage
from rayflow.pipeline.stages.compare import CompareStage
from rayflow.pipeline.stages.encode import EncodeStage, EncodeTargetStage
from rayflow.pipeline.stages.evaluate import EvaluateStage
from rayflow.pipeline.stages.reference import ReferenceStage
from rayflow.pipeline.stages.score import GivenScoreStage
from rayflow.pipeline.stages.train import TrainStage, Validation


def build_run_plan(config: RunConfig) -> Plan:
    """The stages that a configuration asks for."""
    model = resolve_model(config.model)
    steps = sampled_steps(config, model) if config.source == "sampled" else _given(config, model)
    groups = group_stages(config) if config.source == "sampled" else _given_groups(config)
    wanted = needs(build("loss", config.train.loss))
    if wanted.reference:
        steps.append((_reference(config, wanted),))
    if wanted.targets:
        encode = EncodeTargetStage("encode-target", ("prompts",), model, "target", config.compute.encode)
        steps.append((encode,))
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


def _reference(config: RunConfig, wanted: Needs) -> ReferenceStage:
    """The frozen policy's log-probabilities of what the loss reads."""
    sampled = config.source == "sampled"
    paired = not wanted.unpaired and (not sampled or _leaves_out(config))
    drawn = ("sample", "select", *(("pair",) if paired else ()))
    return ReferenceStage(
        name="reference",
        inputs=drawn if sampled else ("encode",),
        model=resolve_model(config.reference.model or config.model),
        options=config.reference,
        sampled=sampled,
        seed=config.seed,
        pool=config.compute.reference,
        paired=paired,
    )


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
