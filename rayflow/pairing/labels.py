"""Which of two responses is chosen: the labels that the pairing rules share.

The RSO paper labels with a new call of its ranker after sampling and says nothing of ties, nor whether the
likelier response is chosen or one is drawn: so both are settings. A pointwise reward's labels are the same
either way.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
from pydantic import Field, model_validator

from rayflow.core.options import KindOptions
from rayflow.core.stats import sigmoid
from rayflow.pairing.base import Prefer

Ties = Literal["drop", "random"]
"""What becomes of a pair that is even: left out, or kept with a random label."""


class LabelOptions(KindOptions):
    """How a pair is labelled.

    Attributes:
        labels: "argmax" chooses the response that is likelier to be better, "sample" draws one with the
            ranker's probability.
        temperature: of a pointwise reward's preferences, in units of the reward: the first of two responses is
            better with probability sigmoid((r1 - r2) / temperature), Bradley-Terry's model. At 0 the higher
            reward always is. With `labels: sample` these are the draws of a noisy annotator.
    """

    labels: Literal["argmax", "sample"] = "argmax"
    temperature: float = Field(default=0.0, ge=0)

    @model_validator(mode="after")
    def _is_read(self) -> LabelOptions:
        if self.temperature and self.labels == "argmax":
            raise ValueError(
                "'temperature' changes nothing under labels 'argmax', where the higher reward is chosen: set labels: "
                "sample, or leave it out"
            )
        return self


def by_reward(rewards: np.ndarray, temperature: float = 0.0) -> Prefer:
    """The preferences of a pointwise reward: the higher of two rewards is better, equal ones are even.

    Args:
        rewards: [n] float64, finite, of all candidates.
        temperature: see `LabelOptions`.
    """

    def prefer(pairs: np.ndarray) -> np.ndarray:
        first, second = rewards[pairs[:, 0]], rewards[pairs[:, 1]]
        if temperature:
            return sigmoid((first - second) / temperature)
        return np.where(first == second, 0.5, np.where(first > second, 1.0, 0.0))

    return prefer


def label(
    pairs: np.ndarray, prefer: Prefer, rng: np.random.Generator, options: LabelOptions
) -> tuple[np.ndarray, np.ndarray]:
    """Order each pair, the chosen one first; an even one by the flip of a coin.

    Args:
        pairs: [p, 2] int candidate indices.
        prefer: the probability that the first of each is better.
        rng: the row's own generator.
        options: `labels`.

    Returns:
        labelled: [p, 2] int32 candidate indices, (chosen, rejected).
        tied: [p] bool, the pairs that are even.
    """
    for_second = 1 - prefer(pairs)
    tied = for_second == 0.5
    if options.labels == "argmax":
        for_second = np.where(tied, 0.5, for_second > 0.5)
    swap = rng.random(len(pairs)) < for_second
    return np.where(swap[:, None], pairs[:, ::-1], pairs).astype(np.int32), tied
