"""Settings that were given and change nothing, because what would read them is not set."""

from __future__ import annotations

from rayflow.config import RunConfig
from rayflow.config.blocks import (
    ComputeOptions,
    EvaluationOptions,
    PoolOptions,
    ReferenceOptions,
    RoundOptions,
    SampleOptions,
)
from rayflow.config.run import learns_from_pairs
from rayflow.core.options import build
from rayflow.core.registry import is_plug_in
from rayflow.losses.base import needs


def unread_settings(config: RunConfig) -> list[str]:
    """A sentence for each block that no stage of the run reads, with what to set or remove.

    It may be meant, such as a block that several configurations share, so it is said and not refused.
    """
    told = []
    if config.prompts.validation is not None and config.train.choose is None:
        told.append(
            "prompts.validation is read by train.choose alone: set it too, or remove prompts.validation."
        )
    if config.prompts.evaluation is None and config.evaluate != EvaluationOptions():
        told.append(
            "Nothing is evaluated, whatever evaluate says: set prompts.evaluation, or remove evaluate."
        )
    loss = config.train.loss
    if config.reference != ReferenceOptions() and not needs(build("loss", loss)).reference:
        told.append(
            f"Loss '{loss.kind}' reads no reference log-probabilities: the reference block changes nothing."
        )
    if config.rounds != RoundOptions() and config.rounds.num == 1:
        told.append("There is one round: the rounds block changes nothing. Set rounds.num, or remove it.")
    return [*told, *_of_one_process(config), *_of_pairs(config), *_of_samples(config)]


def _of_one_process(config: RunConfig) -> list[str]:
    """What only several workers have. A pool's GPUs are not among it: the one process refuses to go on without one."""
    compute, usual = config.compute, ComputeOptions()
    if compute.runner != "local":
        return []
    pools = {name: pool for name, pool in usual if isinstance(pool, PoolOptions)}
    wide = [name for name, pool in pools.items() if getattr(compute, name).num_workers != pool.num_workers]
    named = [f"compute.{name}.num_workers" for name in wide]
    named += ["compute.address"] if compute.address else []
    named += [f"train.zero_stage={config.train.zero_stage}"] if config.train.zero_stage != 1 else []
    if not named:
        return []
    return [
        f"compute.runner=local is one process: it changes nothing to set {', '.join(named)}. Set compute.runner=ray, "
        "or leave that out."
    ]


def _of_pairs(config: RunConfig) -> list[str]:
    """Pairs that the loss does not look at; a plug-in's own loss may."""
    loss = config.train.loss
    paired = config.pair is not None and config.pair.kind != "none"
    if not paired or learns_from_pairs(loss) or is_plug_in(build("loss", loss)):
        return []
    return [
        f"Loss '{loss.kind}' learns from no pairs: those of the pair block are made all the same, and serve `rayflow "
        "export` alone. Set pair: none, or remove it."
    ]


def _of_samples(config: RunConfig) -> list[str]:
    """What is said of drawing where nothing is drawn, or not for training, or not again."""
    if config.source == "sampled":
        again = type(config.select).model_fields.get("max_resamples")
        unread = again is not None and config.select.max_resamples != again.default
        if not unread or getattr(config.select, "shortfall", "resample") == "resample":
            return []
        return ["select.max_resamples is read with select.shortfall: resample alone: set that, or remove it."]
    told, given = [], f"source '{config.source}' takes the data's own responses"
    if config.prompts.evaluation is None and config.train.choose is None:
        if config.sample != SampleOptions():
            told.append(f"Nothing is sampled, whatever sample says: {given}. Remove sample.")
    elif config.sample.model is not None:
        told.append(f"sample.model draws what is learned from, and {given}. Remove it.")
    if config.score == "always":
        told.append(f"score: always scores what was sampled to learn from, and {given}. Remove score.")
    return told
