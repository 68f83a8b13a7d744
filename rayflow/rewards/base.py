"""The interface of a reward. Row in: a prompt with its candidates. Row out: one reward per candidate."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from pydantic import Field

from rayflow.core.options import KindOptions
from rayflow.core.rows import Prompt
from rayflow.errors import RewardError

SURE = 1e-12
"""A preference is never closer to 0 or 1 than this, so that its log-odds are finite."""


class PointwiseOptions(KindOptions):
    """Settings of every reward that scores one response at a time; derive a `Config` of your own from it.

    Attributes:
        missing_eos_penalty: what is taken from the reward of a response that was cut at `max_tokens`, in units of
            the reward, so that the policy learns to come to an end. 0 judges such a text as it stands.
    """

    missing_eos_penalty: float = Field(default=0.0, ge=0)

    def identity(self) -> dict[str, Any]:
        """The settings that decide the result, the reward's own first."""
        own = super().identity()
        penalty = own.pop("missing_eos_penalty")
        return {**own, "missing_eos_penalty": penalty} if penalty else own


class Reward(Protocol):
    """What every reward offers. Built on the driver without heavy imports; loaded on its worker in `setup`.

    Some attributes are optional: `pairwise = True` says that the reward is a `PairwiseReward`, `components`
    that it is a `ComponentReward`, `relative = True` that a response's score depends on the others in its call,
    `reads_cut = True` that `score`, `score_components` and `compare` take one more, optional argument `cut` (see
    `rewards.scoring.scored`),
    and `waits = True` that a call spends its time waiting for another process, so that prompts should be
    scored several at a time (`score` is then called from threads). `close()` ends what would outlive the reward,
    such as another process.
    """

    Config: type[KindOptions]

    def __init__(self, options: KindOptions) -> None: ...

    @property
    def models(self) -> tuple[str, ...]:
        """Model folders or hub ids whose content belongs to the stage's fingerprint; empty for rules."""

    def setup(self) -> None:
        """Load models or import functions.

        Raises:
            ModelError, ConfigError: what was configured cannot be used.
        """

    def score(self, prompt: Prompt, responses: Sequence[str]) -> np.ndarray:
        """Rewards of one prompt's candidates, the whole group in one call.

        Returns:
            [n] float64, higher is better. The caller refuses non-finite values.

        Raises:
            RewardError: the rewards could not be computed; the row becomes a failure.
        """


class PairwiseReward(Reward, Protocol):
    """A reward that judges two responses side by side. Its scores of two groups have no common zero.

    So labels and win rates come from calls of `compare`, never from differences between stored scores.

    One that reads each pair in both orders may say `orders = True` and offer `compare_orders` and `score_orders`:
    `compare` and `score` with the judgements behind them (`ByOrder`). These are then stored, and the report
    shows how far they depend on the order.
    """

    pairwise: bool

    def compare(self, prompt: Prompt, responses: Sequence[str], pairs: np.ndarray) -> np.ndarray:
        """Judge pairs of one prompt's responses.

        Args:
            prompt: what was asked.
            responses: n texts.
            pairs: [p, 2] int, indices into the responses.

        Returns:
            [p] float64, the probability that the first of the two is better.

        Raises:
            RewardError: the pairs could not be judged; the row becomes a failure.
        """


@dataclass(frozen=True)
class ComponentRewards:
    """What a `ComponentReward` knows of n responses.

    Attributes:
        rewards: [n] float64, what `score` returns.
        parts: c arrays [n] float64, each component's own rewards.
        variances: [n] float64, variance of the parts.
    """

    rewards: np.ndarray
    parts: tuple[np.ndarray, ...]
    variances: np.ndarray


@dataclass(frozen=True)
class ByOrder:
    """What a pairwise reward that reads both orders says.

    Attributes:
        values: [p] or [n] float64, what `compare` or `score` returns.
        orders: [m, 2] float64, of each pair that was judged the probability that the first response is better
            when it is shown first, and when it is shown second.
    """

    values: np.ndarray
    orders: np.ndarray


class ComponentReward(Reward, Protocol):
    """A reward of several parts, which are stored with the sum."""

    components: tuple[str, ...]

    def score_components(self, prompt: Prompt, responses: Sequence[str]) -> ComponentRewards:
        """The rewards as `score` gives them, with the parts behind them."""


def is_pairwise(reward: Any) -> bool:
    """Whether a reward can `compare`."""
    return bool(getattr(reward, "pairwise", False))


def reads_orders(reward: Any) -> bool:
    """Whether a pairwise reward tells its judgement of each order."""
    return bool(getattr(reward, "orders", False))


def reads_cut(reward: Any) -> bool:
    """Whether it matters to a reward that a response was cut before its end."""
    return bool(getattr(reward, "reads_cut", False))


def is_relative(reward: Any) -> bool:
    """Whether scores from two calls for one prompt have no common scale. True of every pairwise reward."""
    return bool(getattr(reward, "relative", False)) or is_pairwise(reward)


def is_within_prompts(reward: Any) -> bool:
    """Whether its rewards order the responses of one call and say nothing across calls, with nothing to compare by.

    A pairwise reward, whose stored rewards are of that kind too, can be asked about any two responses instead.
    """
    return is_relative(reward) and not is_pairwise(reward)


def components_of(reward: Any) -> tuple[str, ...]:
    """Names of a reward's parts; empty where it is one piece."""
    return tuple(getattr(reward, "components", ()))


def close_reward(reward: Any) -> None:
    """Call `close` where the reward has it."""
    close = getattr(reward, "close", None)
    if close is not None:
        close()


def preferences(
    reward: PairwiseReward,
    prompt: Prompt,
    responses: Sequence[str],
    pairs: np.ndarray,
    cut: np.ndarray | None = None,
) -> np.ndarray:
    """`reward.compare`, held to its word: [p] float64 in [SURE, 1 - SURE]; `cut` as in `rewards.scoring.scored`.

    Raises:
        RewardError: see `compare`, or what came back is no list of p probabilities.
    """
    return judged(reward, prompt, responses, pairs, cut).values


def judged(
    reward: Any, prompt: Prompt, responses: Sequence[str], pairs: np.ndarray, cut: np.ndarray | None = None
) -> ByOrder:
    """The same, with the judgements of each order where the reward tells them; else none, [0, 2].

    Raises:
        RewardError: as `preferences`.
    """
    if not len(pairs):
        return ByOrder(np.empty(0), np.empty((0, 2)))
    if reads_orders(reward):
        told = reward.compare_orders(prompt, responses, pairs)
        orders = np.asarray(told.orders, np.float64).reshape(-1, 2)
        found = ByOrder(np.asarray(told.values, np.float64), orders)
    else:
        more = (cut,) if reads_cut(reward) else ()
        values = np.asarray(reward.compare(prompt, responses, pairs, *more), np.float64)
        found = ByOrder(values, np.empty((0, 2)))
    if found.values.shape != (len(pairs),):
        raise RewardError(f"compare gave the shape {found.values.shape} for {len(pairs)} pairs")
    bad = np.flatnonzero(~((found.values >= 0) & (found.values <= 1)))
    if len(bad):
        raise RewardError(f"compare gave {found.values[bad[0]]} for pair {bad[0]}, which is no probability")
    return ByOrder(np.clip(found.values, SURE, 1 - SURE), found.orders)
