"""The steps of a plan that make preference groups out of prompts: sample, score, select, pair.

Which of them a run needs follows from its parts. Nothing is scored whose rewards nobody reads, and prompts that
selection leaves short are sampled again only where the configuration says so.
"""

from __future__ import annotations

from pathlib import Path

from rayflow.config import RunConfig
from rayflow.config.run import learns_from_pairs
from rayflow.core.model_folder import resolve_model
from rayflow.core.options import build
from rayflow.core.registry import is_plug_in
from rayflow.errors import ConfigError
from rayflow.losses.base import needs
from rayflow.pipeline.prompts import PromptStage
from rayflow.pipeline.stage import Stage
from rayflow.pipeline.stages.judged_select import JudgedSelectStage
from rayflow.pipeline.stages.pair import PairStage
from rayflow.pipeline.stages.range import RangeStage
from rayflow.pipeline.stages.resample import ResampleStage, RescoreStage
from rayflow.pipeline.stages.sample import SampleStage
from rayflow.pipeline.stages.score import ScoreStage
from rayflow.pipeline.stages.select import SelectStage
from rayflow.rewards.base import is_pairwise


def group_stages(config: RunConfig) -> tuple[str, ...]:
    """The stages that together hold the columns of a sampled group."""
    return ("sample", *(("score",) if reads_rewards(config) else ()), "select", "pair")


def reads_rewards(config: RunConfig) -> bool:
    """Whether the rewards of sampled candidates are used, or wanted all the same."""
    if config.score == "always" or num_resamples(config) or needs(build("loss", config.train.loss)).rewards:
        return True
    return any(_rule_reads_rewards(rule, asks, is_ranked(config)) for rule, asks in _rules(config))


def learns_rewards(config: RunConfig) -> bool:
    """Whether the reward, scored or asked, has a part in what the loss sees of sampled candidates."""
    loss = build("loss", config.train.loss)
    paired = learns_from_pairs(config.train.loss) or is_plug_in(loss)  # whose code may read them
    rules = _rules(config)[: 2 if paired else 1]
    return needs(loss).rewards or any(_rule_reads_rewards(rule, asks, ranked=False) for rule, asks in rules)


def _rules(config: RunConfig) -> list[tuple[object, bool]]:
    """Selection and pairing, and whether each asks for labels unless it says otherwise."""
    return [(build("selection", config.select), False), (build("pairing", config.pair), True)]


def _rule_reads_rewards(rule: object, asks_by_default: bool, ranked: bool) -> bool:
    """A rule's own use of rewards, or its questions, which a pointwise reward answers from what is stored."""
    return getattr(rule, "uses_rewards", True) or (getattr(rule, "asks", asks_by_default) and not ranked)


def sampled_steps(config: RunConfig, model: str) -> list[tuple[Stage, ...]]:
    """From prompts to pairs, as one stream; as several where a further draw has to wait for the one before, or
    selection for all scores.

    A stream keeps its engines until it ends, so further draws in the same one would need an engine each.
    """
    prompts = PromptStage("prompts", config.prompts.train, config.compute.shard_size)
    sample = sample_stage(config, "sample", ("prompts",), resolve_model(config.sample.model or model))
    first = (
        sample,
        *((score_stage(config, "score", ("prompts", "sample")),) if reads_rewards(config) else ()),
    )
    select, pair = _select(config), _pair(config)
    further = [_further_draw(config, sample, select, i + 1) for i in range(num_resamples(config))]
    waited = [(RangeStage("range", ("score",)),)] if needs_range(config) else further
    last = (select, pair)
    return [(prompts,), first, *waited, last] if waited else [(prompts,), (*first, *last)]


def needs_range(config: RunConfig) -> bool:
    """Whether selection needs the range of all rewards, and so has to wait for them."""
    return getattr(build("selection", config.select), "needs_range", False)


def num_resamples(config: RunConfig) -> int:
    """How often short prompts may be sampled again."""
    again = getattr(config.select, "shortfall", "keep") == "resample"
    return getattr(config.select, "max_resamples", 1) if again else 0


def _further_draw(config: RunConfig, sample: SampleStage, select: Stage, draw: int) -> tuple[Stage, ...]:
    """A further draw for short prompts, and its scores."""
    if not isinstance(select, SelectStage):
        raise ConfigError(
            f"select.shortfall 'resample' does not go with '{config.select.kind}', which asks the pairwise reward "
            "anew: use 'keep' or 'skip'."
        )
    groups, rewards = ("sample", "score") if draw == 1 else (f"resample-{draw - 1}", f"rescore-{draw - 1}")
    again = ResampleStage(
        name=f"resample-{draw}",
        inputs=("prompts", groups, rewards),
        model=sample.model,
        engine_options=sample.engine_options,
        sampling=sample.sampling,
        seed=sample.seed,
        pool=sample.pool,
        select=select,
        draw=draw,
    )
    inputs = ("prompts", rewards, again.name)
    return again, RescoreStage(f"rescore-{draw}", inputs, config.reward, config.compute.score)


def _select(config: RunConfig) -> SelectStage | JudgedSelectStage:
    """By the stored rewards, or, where the rule asks and the reward is pairwise, by new comparisons."""
    compute, scored = config.compute, reads_rewards(config)
    stored = ("sample", "score") if scored else ("sample",)
    if getattr(build("selection", config.select), "asks", False) and is_ranked(config):
        inputs, pool = ("prompts", *stored), compute.label
        return JudgedSelectStage("select", inputs, config.select, config.reward, config.seed, pool, scored)
    measured = (
        Path(config.root, "04-range") if needs_range(config) else None
    )  # behind prompts, samples, scores
    return SelectStage("select", stored, config.select, config.seed, compute.transform, scored, measured)


def _pair(config: RunConfig) -> PairStage:
    """By the stored rewards, or, where the rule asks for labels and the reward is pairwise, by new calls."""
    asks, scored = getattr(build("pairing", config.pair), "asks", True), reads_rewards(config)
    stored = ("score",) if scored else ()
    if asks and is_ranked(config):
        if getattr(config.pair, "temperature", 0.0):
            raise ConfigError(
                f"pair.temperature makes probabilities of rewards, and '{config.reward.kind}' gives them itself: leave "
                "it out."
            )
        inputs, pool, ranker = ("prompts", "sample", *stored, "select"), config.compute.label, config.reward
    else:
        inputs, pool, ranker = (*stored, "select"), config.compute.transform, None
    needed = learns_from_pairs(config.train.loss)
    return PairStage("pair", inputs, config.pair, config.seed, pool, ranker, scored, needed)


def is_ranked(config: RunConfig) -> bool:
    """Whether the reward compares two responses at a time."""
    return is_pairwise(build("reward", config.reward))


def score_stage(config: RunConfig, name: str, inputs: tuple[str, ...]) -> ScoreStage:
    """A stage that scores with the run's reward."""
    assert config.reward is not None
    return ScoreStage(name, inputs, config.reward, config.compute.score)


def sample_stage(
    config: RunConfig, name: str, inputs: tuple[str, ...], model: str, n: int | None = None, side: str = ""
) -> SampleStage:
    """A stage that samples as the run does, from any model; `n` candidates if given, for a `side` of a comparison."""
    return SampleStage(
        name=name,
        inputs=inputs,
        model=model,
        engine_options=config.sample.engine,
        sampling=config.sample.drawing(n),
        seed=config.seed if config.sample.seed is None else config.sample.seed,
        pool=config.compute.sample,
        model_is_input="train" in inputs,
        side=side,
    )
