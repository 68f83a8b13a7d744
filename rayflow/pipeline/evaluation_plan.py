"""The plan of an evaluation: both sides' answers, what each judge says of them, and the numbers.

Stages that hold models are steps of their own: an evaluation may name many, and a small machine holds one at a time.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from rayflow.config import PoolOptions, RunConfig
from rayflow.config.evaluate import EvaluateConfig, SideOptions
from rayflow.config.side_by_side import SideBySideOptions
from rayflow.core.model_folder import resolve_model
from rayflow.core.options import KindOptions, build
from rayflow.engines.base import SamplingOptions
from rayflow.errors import ArtifactError
from rayflow.pipeline.folders import last_round, stored_config
from rayflow.pipeline.plan import Plan
from rayflow.pipeline.prompts import PromptStage
from rayflow.pipeline.run_plan import build_run_plan
from rayflow.pipeline.stage import Stage
from rayflow.pipeline.stages.compare import CompareStage
from rayflow.pipeline.stages.diversity import DiversityStage
from rayflow.pipeline.stages.encode import EncodeStage
from rayflow.pipeline.stages.evaluate import EvaluateStage
from rayflow.pipeline.stages.given import GivenStage
from rayflow.pipeline.stages.logprobs import LogprobStage
from rayflow.pipeline.stages.measure import Divergent, MeasureStage
from rayflow.pipeline.stages.sample import SampleStage
from rayflow.pipeline.stages.score import ScoreStage
from rayflow.pipeline.stages.side_by_side import SideBySideStage
from rayflow.rewards.base import is_pairwise

Step = tuple[Stage, ...]
PROMPTS = "prompts"


@dataclass(frozen=True)
class Side:
    """One side of the comparison.

    Attributes:
        name: "policy" or "baseline".
        answer: the stage that holds its responses.
        steps: how they come to be.
        diversity: the stage that measures how different they are; "" for single ones.
    """

    name: str
    answer: str
    steps: tuple[Step, ...]
    diversity: str


def build_evaluation_plan(config: EvaluateConfig) -> Plan:
    """The stages that a configuration asks for."""
    prompts = PromptStage(PROMPTS, config.prompts, config.compute.shard_size)
    policy, baseline = _side(config, "policy"), _side(config, "baseline")
    steps: list[Step] = [(prompts,), *baseline.steps, *policy.steps]
    verdicts = {}
    for name, reward in config.rewards.items():
        added, verdict = _judged(config, (name, reward), policy, baseline)
        steps += added
        verdicts[name] = verdict
    steps += [(verdict,) for verdict in verdicts.values()]
    divergent = None
    if config.kl is not None:
        added, divergent = _divergence(config, policy)
        steps += added
    if config.side_by_side is not None:
        inputs = (PROMPTS, baseline.answer, policy.answer)
        judge = SideBySideStage(
            "side-by-side",
            inputs,
            config.side_by_side,
            config.seed,
            _judge_pool(config, config.side_by_side),
        )
        steps.append((judge,))
    measure = MeasureStage(
        name="measure",
        verdicts=verdicts,
        diversity={side.name: side.diversity for side in (policy, baseline) if side.diversity},
        divergent=divergent,
        judged=config.side_by_side and "side-by-side",
        side_by_side=config.side_by_side,
        interval=config.interval,
        seed=config.seed,
    )
    return Plan(config, (*steps, (measure,)))


def _judge_pool(config: EvaluateConfig, side_by_side: SideBySideOptions) -> PoolOptions:
    """The sampler's, unless one is named; one worker without a GPU for a judge that an endpoint answers for."""
    if config.compute.judge is not None:
        return config.compute.judge
    holds_model = bool(build("judge", side_by_side.judge).models)
    return config.compute.sample if holds_model else PoolOptions(num_cpus=0.25)


def model_of(side: SideOptions, config: EvaluateConfig) -> str:
    """The model that answers for a side; the SFT policy, whose tokenizer counts, where the answers are given."""
    if side.run is not None:
        return str(trained_by(Path(side.run).expanduser()))
    return resolve_model(side.model or config.model)


def trained_by(folder: Path) -> Path:
    """The model that a run has trained.

    Raises:
        ArtifactError: no run's folder, or it has not trained yet.
    """
    folder = last_round(folder)
    artifact = build_run_plan(stored_config(folder, RunConfig)).artifacts["train"]
    if not artifact.committed:
        raise ArtifactError(f"The run {folder} has not finished its training. Finish it first: rayflow run.")
    return artifact.folder / "model"


def _side(config: EvaluateConfig, name: str) -> Side:
    options: SideOptions = getattr(config, name)
    diversity, model = f"{name}-diversity", model_of(options, config)
    if options.samples:
        sample = _sample(config, name, model, config.sample.drawing(name))
        if config.sample.fewest == 1:
            return Side(name, sample.name, ((sample,),), "")
        # More responses have more in common, so both sides are measured on equally many.
        measured = DiversityStage(
            diversity, (PROMPTS, sample.name), config.compute.transform, config.sample.fewest
        )
        return Side(name, sample.name, ((sample, measured),), diversity)
    if options.target:
        encode = EncodeStage(f"{name}-encode", (PROMPTS,), model, "target", config.compute.encode)
        return Side(name, encode.name, ((encode,),), "")
    assert options.responses is not None
    given = GivenStage(f"{name}-responses", (PROMPTS,), options.responses)
    encode = EncodeStage(f"{name}-encode", (PROMPTS, given.name), model, "responses", config.compute.encode)
    measured = DiversityStage(diversity, (PROMPTS, encode.name), config.compute.transform)
    return Side(name, encode.name, ((given,), (encode, measured)), diversity)


def _judged(
    config: EvaluateConfig, named: tuple[str, KindOptions], policy: Side, baseline: Side
) -> tuple[list[Step], EvaluateStage]:
    """What a reward needs to be computed, and the verdicts that follow from it."""
    name, reward = named
    steps: list[Step] = []
    compared = f"compare-{name}" if is_pairwise(build("reward", reward)) else None
    scores: tuple[tuple[str, ...], ...] = ((), ())
    if compared:
        read = (PROMPTS, baseline.answer, policy.answer)
        steps.append((CompareStage(compared, read, reward, config.compute.label),))
    else:
        scores = ((f"policy-score-{name}",), (f"baseline-score-{name}",))
        for side, (score,) in zip((policy, baseline), scores, strict=True):
            inputs = (PROMPTS, side.answer)
            steps.append((ScoreStage(score, inputs, reward, config.compute.score),))
    verdict = EvaluateStage(
        name=f"verdict-{name}",
        policy=(PROMPTS, policy.answer, *scores[0]),
        baseline=(PROMPTS, baseline.answer, *scores[1]),
        options=config.interval,
        seed=config.seed,
        compared=compared,
    )
    return steps, verdict


def _divergence(config: EvaluateConfig, policy: Side) -> tuple[list[Step], Divergent]:
    """Samples of the policy itself, and both models' passes over them."""
    assert config.kl is not None
    model, sampled = model_of(config.policy, config), policy.answer
    steps: list[Step] = []
    if not config.sample.is_plain:
        sampled = "kl-sample"
        plain = SamplingOptions(
            num_candidates=config.kl.num_samples,
            temperature=1.0,
            top_k=0,
            top_p=1.0,
            max_tokens=config.sample.max_tokens,
        )
        steps.append((_sample(config, "kl", model, plain),))
    for name, scorer in (("kl-policy", model), ("kl-sft", resolve_model(config.model))):
        pool = config.compute.reference
        steps.append((LogprobStage(name, (sampled,), scorer, config.kl, pool, sampler=model),))
    return steps, Divergent(sampled, "kl-policy", "kl-sft")


def _sample(config: EvaluateConfig, side: str, model: str, sampling: SamplingOptions) -> SampleStage:
    return SampleStage(
        name=f"{side}-sample",
        inputs=(PROMPTS,),
        model=model,
        engine_options=config.sample.engine,
        sampling=sampling,
        seed=config.seed,
        pool=config.compute.sample,
        side=side,
    )
