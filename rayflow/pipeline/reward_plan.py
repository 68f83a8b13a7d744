"""The plan of a reward model's training: preferences in, a model folder and its quality out."""

from __future__ import annotations

from rayflow.config.reward import RewardConfig
from rayflow.core.model_folder import resolve_model
from rayflow.core.registry import resolve
from rayflow.pipeline.plan import Plan
from rayflow.pipeline.stage import Stage
from rayflow.pipeline.stages.encode import EncodeStage
from rayflow.pipeline.stages.judge import JudgeStage
from rayflow.pipeline.stages.preferences import ByFile, ByHash, HeldOut, PreferenceStage
from rayflow.pipeline.stages.quality import QualityStage
from rayflow.pipeline.stages.ranker import RankerEncodeStage, RankerTrainStage
from rayflow.pipeline.stages.train import TrainStage


def build_reward_plan(config: RewardConfig) -> Plan:
    """The stages that a configuration asks for."""
    encode, train = _classifier(config) if config.kind == "classifier" else _ranker(config)
    first = ((_rows(config),), (_held_out_rows(config),), (encode,), (train,))
    trained = str(Plan(config, first).artifacts["train"].folder / "model")
    judge = JudgeStage(
        name="eval-judge",
        inputs=("eval-prompts", "train"),
        model=trained,
        reward_options=resolve("reward", config.kind).Config(model=trained),
        pool=config.compute.score,
    )
    quality = QualityStage("evaluate", ("eval-prompts", "eval-judge"), config.evaluate, config.seed)
    return Plan(config, (*first, (judge,), (quality,)))


def _rows(config: RewardConfig) -> PreferenceStage:
    return PreferenceStage(
        "prompts", config.data.train, config.compute.shard_size, held_out=_held_out(config)
    )


def _held_out_rows(config: RewardConfig) -> PreferenceStage:
    """Read before anything is trained, so that a file without a usable pair is noticed in time."""
    size = config.compute.shard_size
    if config.data.evaluation is not None:
        return PreferenceStage("eval-prompts", config.data.evaluation, size)
    split = _held_out(config)
    return PreferenceStage("eval-prompts", config.data.train, size, held_out=split, keep_held_out=True)


def _held_out(config: RewardConfig) -> HeldOut:
    if config.data.evaluation is not None:
        return ByFile(config.data.evaluation)
    assert config.data.holdout_fraction is not None
    return ByHash(config.data.holdout_fraction, config.seed)


def _classifier(config: RewardConfig) -> tuple[Stage, Stage]:
    """One group per row: its responses are branches of one prompt, its pairs what the loss reads."""
    model = resolve_model(config.model)
    encode = EncodeStage("encode", ("prompts",), model, "responses", config.compute.encode)
    return encode, TrainStage(**_training(config, model), objective="reward")


def _ranker(config: RewardConfig) -> tuple[Stage, Stage]:
    """One group per pair: both responses are in the text, and the response is a letter."""
    model = resolve_model(config.model)
    encode = RankerEncodeStage("encode", ("prompts",), model, config.compute.encode)
    return encode, RankerTrainStage(**_training(config, model))


def _training(config: RewardConfig, model: str) -> dict[str, object]:
    return {
        "name": "train",
        "groups": ("encode",),
        "model": model,
        "options": config.train,
        "seed": config.seed,
        "pool": config.compute.train,
        "max_restarts": config.compute.max_restarts,
    }
