"""Which parts of a method go together: what is refused before anything is computed."""

from __future__ import annotations

from typing import Any

from rayflow.config import RunConfig
from rayflow.core.options import build
from rayflow.errors import ConfigError
from rayflow.losses.base import UNITS
from rayflow.pipeline.candidates import needs_range, num_resamples
from rayflow.rewards.base import is_relative, is_within_prompts


def check_compares(reward: Any, key: str) -> None:
    """Refuse to compare two models by a reward that brings every prompt's responses to the same mean.

    Raises:
        ConfigError: with what to use instead.
    """
    if is_within_prompts(reward):
        raise ConfigError(
            f"{key} orders the responses of one prompt among themselves (normalize: standardize, or a class with "
            "relative = True): both sides of a comparison would have the same mean on every prompt, and no model could "
            "be better. Compare with `rayflow evaluate`, by its members or with normalize: none, and leave out "
            "prompts.evaluation and train.choose here."
        )


def check_method(config: RunConfig) -> None:
    """Refuse a selection, pairing and loss that cannot go together.

    Raises:
        ConfigError: the loss would find nothing to train on.
    """
    loss = build("loss", config.train.loss)
    unit = getattr(loss, "unit", None)
    if unit not in UNITS:
        raise ConfigError(
            f"train.loss '{config.train.loss.kind}' has the unit {unit!r}: say in its class what one item of its "
            "result is, with unit = 'pairs', 'responses' or 'groups'."
        )
    no_pairs = config.source == "targets" or (config.pair is not None and config.pair.kind == "none")
    if unit == "pairs" and no_pairs:
        raise ConfigError(
            f"Loss '{config.train.loss.kind}' trains on pairs, and this run makes none. Choose a pairing rule, or "
            "a loss over responses such as cross_entropy."
        )
    if config.source == "sampled" and needs_range(config) and is_relative(build("reward", config.reward)):
        raise ConfigError(
            f"select.scale 'global' measures one range for all prompts, and rewards of '{config.reward.kind}' are "
            "relative to the other responses of their prompt. Use scale: prompt."
        )
    if config.source == "sampled":
        _check_accepted(config, unit)


def _check_accepted(config: RunConfig, unit: str) -> None:
    """Refuse a number of accepted responses that no prompt could give, or that no pair could be made of.

    Raises:
        ConfigError: with the numbers.
    """
    accepted, resamples = getattr(config.select, "num_accepted", 0), num_resamples(config)
    drawn = config.sample.num_candidates * (1 + resamples)
    if accepted > drawn:
        again = f", drawn again at most select.max_resamples={resamples} times" if resamples else ""
        raise ConfigError(
            f"select.num_accepted={accepted} is more than sample.num_candidates="
            f"{config.sample.num_candidates}{again}: no prompt could ever give that many."
        )
    fixed = getattr(
        build("selection", config.select), "num_accepted", drawn
    )  # of a rule without that setting
    if unit == "pairs" and min(drawn, accepted or fixed) < 2:
        asked = {"sample.num_candidates": drawn, "select.num_accepted": accepted or fixed}
        key, number = next((key, number) for key, number in asked.items() if number < 2)
        chosen = f" (select.kind '{config.select.kind}' accepts one)" if not accepted and drawn > 1 else ""
        raise ConfigError(
            f"Loss '{config.train.loss.kind}' trains on pairs, and with {key}={number}{chosen} no prompt could ever "
            "give two responses to pair. Accept more, or choose a loss over responses such as cross_entropy."
        )
