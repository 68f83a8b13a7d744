"""How scores are asked for: the one place that calls a reward, and that takes its penalty from responses that were cut.

Row in: a prompt with its candidates, and which of them were cut. Row out: their rewards, with what is behind them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from rayflow.core.options import KindOptions
from rayflow.core.rows import Prompt
from rayflow.errors import ConfigError, RewardError
from rayflow.rewards.base import components_of, is_pairwise, reads_cut, reads_orders


@dataclass(frozen=True)
class Scoring:
    """What a reward says of n responses of one prompt.

    Attributes:
        rewards: [n] float64, less the penalty for those that were cut.
        parts: c arrays [n] float64, each component's own rewards; none of a reward of one piece. A penalty of the
            whole is in none of them.
        variances: [n] float64, variance of the parts; 0 of a reward of one piece.
        orders: [m, 2] float64, as in `ByOrder`; None of a reward that does not tell them.
    """

    rewards: np.ndarray
    parts: tuple[np.ndarray, ...]
    variances: np.ndarray
    orders: np.ndarray | None = None


def missing_eos_penalty(reward: Any) -> float:
    """Its `missing_eos_penalty`; 0 where it has no such setting.

    Raises:
        ConfigError: a pairwise reward has one: its labels and win rates come from comparisons, which would not know it.
    """
    found = float(getattr(getattr(reward, "options", None), "missing_eos_penalty", 0.0))
    if found and is_pairwise(reward):
        raise ConfigError(
            f"Reward '{reward.options.kind}' compares responses, and missing_eos_penalty={found:g} is taken from "
            "scores: its labels and win rates would leave it out. Remove the setting; or, in an ensemble, give it to "
            "a member that scores single responses."
        )
    return found


def penalty_in(options: KindOptions | None) -> float | None:
    """The largest `missing_eos_penalty` in a reward's settings and its members'; None where none has this setting."""
    inner = [getattr(member, "reward", None) for member in getattr(options, "members", ())]
    found = [getattr(options, "missing_eos_penalty", None), *map(penalty_in, inner)]
    return max((penalty for penalty in found if penalty is not None), default=None)


def scored(reward: Any, prompt: Prompt, responses: Sequence[str], cut: np.ndarray | None = None) -> Scoring:
    """The rewards of one prompt's candidates, with their parts or both orders' judgements where the reward tells them.

    Neither the number of rewards nor that they are finite is looked at: that is the caller's.

    Args:
        reward: a `Reward`, set up.
        prompt: what was asked.
        responses: n texts.
        cut: [n] bool, which of them the sampler cut at max_tokens; None where all are complete. A reward with
            `reads_cut` is told.

    Raises:
        RewardError: see `Reward.score`.
        ConfigError: see `missing_eos_penalty`.
    """
    more = (cut,) if reads_cut(reward) else ()
    orders, parts, variances = None, (), np.zeros(len(responses))
    if components_of(reward):
        made = reward.score_components(prompt, responses, *more)
        rewards, variances = made.rewards, np.asarray(made.variances, np.float64)
        parts = tuple(np.asarray(part, np.float64) for part in made.parts)
    elif reads_orders(reward):
        by_order = reward.score_orders(prompt, responses)
        rewards, orders = by_order.values, np.asarray(by_order.orders, np.float64).reshape(-1, 2)
    else:
        rewards = reward.score(prompt, responses, *more)
    rewards, penalty = np.asarray(rewards, np.float64), missing_eos_penalty(reward)
    if penalty and cut is not None and rewards.shape == cut.shape:
        rewards = rewards - penalty * cut
    return Scoring(rewards, parts, variances, orders)


def scores_of(
    reward: Any, prompt: Prompt, responses: Sequence[str], cut: np.ndarray | None = None
) -> np.ndarray:
    """The rewards alone, held to their word: [n] float64, finite (see `scored`).

    Raises:
        RewardError: as `scored`, or what came back is not one finite number for each response.
    """
    found = scored(reward, prompt, responses, cut).rewards
    if found.shape != (len(responses),):
        raise RewardError(f"gave the shape {found.shape} for {len(responses)} responses")
    bad = np.flatnonzero(~np.isfinite(found))
    if len(bad):
        raise RewardError(f"gave {found[bad[0]]} for candidate {bad[0]}, which is not finite")
    return found
