"""Several rewards as one: a weighted sum, with the parts and their variance kept.

Row in: a prompt with its responses. Row out: their rewards, and each member's.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Literal

import numpy as np
from pydantic import Field, field_validator, model_validator

from rayflow.core.options import KindOptions, MemberOptions, Options, build
from rayflow.core.registry import is_plug_in
from rayflow.core.rows import Prompt
from rayflow.core.stats import logit, sigmoid
from rayflow.errors import ConfigError, RayflowError, RewardError
from rayflow.rewards.base import (
    ComponentRewards,
    close_reward,
    is_pairwise,
    is_relative,
    is_within_prompts,
    preferences,
    reads_cut,
)
from rayflow.rewards.scoring import missing_eos_penalty, penalty_in, scores_of

_ROUNDING = 4 * float(np.finfo(np.float32).eps)
"""Relative spread up to which rewards are equal: models score in float32, where the last bits depend on the batch."""


class Member(Options):
    """One part of an ensemble.

    Attributes:
        reward: any reward.
        weight: its factor in the sum; negative for what should be avoided. The sum is not divided by the
            weights, so they also set the scale that selection's beta is measured in. A member's
            `missing_eos_penalty` is multiplied too, so it goes to one whose weight is not negative.
        name: what it is called; its kind if empty.
    """

    reward: MemberOptions
    weight: float = 1.0
    name: str = ""

    @model_validator(mode="after")
    def _a_penalty_is_no_bonus(self) -> Member:
        if self.weight < 0 and penalty_in(self.reward):
            raise ValueError(
                f"the negative weight {self.weight:g} would turn missing_eos_penalty into a bonus for responses that "
                "were cut: give the penalty to a member with a positive weight, such as a rule that returns 0, and "
                "remove it here"
            )
        return self

    @property
    def title(self) -> str:
        """The name that is shown."""
        return self.name or self.reward.kind


class EnsembleReward:
    """The weighted sum of its members' rewards, be they several models of one quality or several qualities.

    With a pairwise member it is pairwise too: the log-odds of a preference are the weighted sum of each
    member's, where a pointwise member's are the difference of its two rewards (Bradley-Terry).
    """

    class Config(KindOptions):
        """Settings of `ensemble`.

        Attributes:
            members: at least one; two of the same kind need names.
            normalize: "none" adds rewards as they are; "standardize" first brings each member's rewards of a
                prompt to mean 0 and standard deviation 1 (equal ones to 0), so that only the order and the
                relative distances within the prompt count. Not with pairwise members, whose comparisons
                have no group to be standardised over; nor does a member that is standardised go with them.
        """

        kind: str = "ensemble"
        members: tuple[Member, ...] = Field(min_length=1)
        normalize: Literal["none", "standardize"] = "none"

        @field_validator("members")
        @classmethod
        def _names_differ(cls, members: tuple[Member, ...]) -> tuple[Member, ...]:
            titles = [member.title for member in members]
            twice = sorted({title for title in titles if titles.count(title) > 1})
            if twice:
                raise ValueError(f"two members are called '{twice[0]}': give each a 'name' of its own")
            return members

        def identity(self) -> dict[str, Any]:
            """What decides the result: of each member what it says of itself."""
            members = [{**m.model_dump(mode="json"), "reward": m.reward.identity()} for m in self.members]
            return {**super().identity(), "members": members}

    def __init__(self, options: Config) -> None:
        self.options = options
        self.members = tuple(build("reward", member.reward) for member in options.members)
        self.components = tuple(member.title for member in options.members)
        self.pairwise = any(is_pairwise(member) for member in self.members)
        self.relative = options.normalize != "none" or any(is_relative(member) for member in self.members)
        self.reads_cut = any(reads_cut(member) or missing_eos_penalty(member) for member in self.members)
        self.waits = all(getattr(member, "waits", False) for member in self.members)
        self._weights = np.array([member.weight for member in options.members])
        if self.pairwise and options.normalize != "none":
            raise ConfigError(
                "reward.normalize: 'standardize' does not go with a pairwise member: its comparisons are log-odds "
                "of two responses, with no group to be standardised over. Use normalize: none and weights."
            )
        within = [n for n, m in zip(self.components, self.members, strict=True) if is_within_prompts(m)]
        if self.pairwise and within:
            raise ConfigError(
                f"reward.members: '{within[0]}' does not go with a pairwise member: its rewards are relative to the "
                "other responses of its call, so that a label would depend on which other pairs were asked about. "
                "Give it normalize: none, or leave one of the two out."
            )

    @property
    def models(self) -> tuple[str, ...]:
        """All members' models."""
        return tuple(model for member in self.members for model in member.models)

    def setup(self) -> None:
        """Set up every member."""
        for member in self.members:
            member.setup()

    def close(self) -> None:
        """Close the members that hold a process."""
        for member in self.members:
            close_reward(member)

    def score(self, prompt: Prompt, responses: Sequence[str], cut: np.ndarray | None = None) -> np.ndarray:
        """Rewards of one prompt's candidates: [n] float64, the weighted sum."""
        return self.score_components(prompt, responses, cut).rewards

    def score_components(
        self, prompt: Prompt, responses: Sequence[str], cut: np.ndarray | None = None
    ) -> ComponentRewards:
        """The sum, and each member's own rewards as they enter it before their weight.

        The variance is that of the members on one response, each counted once whatever its weight: a measure
        of doubt where they judge the same thing on the same scale.

        Raises:
            RewardError: a member failed, gave the wrong number of rewards, or one that is not finite.
        """
        parts = np.stack([self._scores(i, prompt, responses, cut) for i in range(len(self.members))])
        if self.options.normalize == "standardize":
            parts = standardized(parts)
        return ComponentRewards(self._weights @ parts, tuple(parts), parts.var(axis=0))

    def compare(
        self, prompt: Prompt, responses: Sequence[str], pairs: np.ndarray, cut: np.ndarray | None = None
    ) -> np.ndarray:
        """Probabilities [p] that the first of each pair [p, 2] is better (see `PairwiseReward`)."""
        odds = np.stack([self._log_odds(i, prompt, responses, pairs, cut) for i in range(len(self.members))])
        return sigmoid(self._weights @ odds)

    def _log_odds(
        self,
        index: int,
        prompt: Prompt,
        responses: Sequence[str],
        pairs: np.ndarray,
        cut: np.ndarray | None,
    ) -> np.ndarray:
        """[p] float64; a pointwise member reads only the responses that occur in the pairs."""
        if is_pairwise(self.members[index]):
            with self._named(index):
                return logit(preferences(self.members[index], prompt, responses, pairs, cut))
        used, places = np.unique(pairs, return_inverse=True)
        texts = [responses[i] for i in used]
        rewards = self._scores(index, prompt, texts, None if cut is None else cut[used])[
            places.reshape(-1, 2)
        ]
        return rewards[:, 0] - rewards[:, 1]

    def _scores(
        self, index: int, prompt: Prompt, responses: Sequence[str], cut: np.ndarray | None = None
    ) -> np.ndarray:
        """One member's rewards: [n] float64, finite."""
        with self._named(index):
            return scores_of(self.members[index], prompt, responses, cut)

    @contextmanager
    def _named(self, index: int) -> Iterator[None]:
        """Say whose error it is; whatever someone's own class lets through concerns the row, as it would alone."""
        name = self.components[index]
        try:
            yield
        except RewardError as error:
            raise RewardError(f"member '{name}': {error}") from error
        except Exception as error:
            if isinstance(error, RayflowError) or not is_plug_in(self.members[index]):
                raise
            raise RewardError(f"member '{name}': {type(error).__name__}: {error}") from error


def standardized(rewards: np.ndarray) -> np.ndarray:
    """Each row of [c, n] float64 with mean 0 and standard deviation 1; a row of equal numbers becomes 0.

    Numbers that differ by rounding alone are equal: brought to deviation 1, noise would count like a judgement.
    """
    spread = rewards.std(axis=1, keepdims=True)
    centred = rewards - rewards.mean(axis=1, keepdims=True)
    size = np.abs(rewards).max(axis=1, keepdims=True)
    equal = np.ptp(rewards, axis=1, keepdims=True) <= _ROUNDING * size
    return np.where(equal, 0.0, centred / np.where(equal, 1.0, spread))
