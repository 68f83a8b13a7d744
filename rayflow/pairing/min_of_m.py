"""One pair per prompt: the highest reward against the lowest of a few random others.

Row in: the accepted indices and the rewards. Row out: one pair, or none if all of them have equal rewards.

With many candidates the lowest reward of all is an outlier that teaches little; the lowest of m does not get
worse as their number grows.
Source: arXiv:2502.16825.
"""

from __future__ import annotations

import numpy as np
from pydantic import Field

from rayflow.pairing.base import Prefer
from rayflow.pairing.labels import LabelOptions, label


class MinOfM:
    """Best against min-of-m. Of equally good (or bad) responses the one met first is taken.

    The two are found by their rewards; which of them is chosen is asked, so a ranker may disagree.
    """

    class Config(LabelOptions):
        """Settings of `min_of_m`, besides `labels`.

        Attributes:
            m: how many of the other responses the rejected one is the worst of; all, if there are fewer.
        """

        kind: str = "min_of_m"
        m: int = Field(default=5, gt=0)

    def __init__(self, options: Config) -> None:
        self.options = options

    def pair(
        self, accepted: np.ndarray, rewards: np.ndarray, rng: np.random.Generator, prefer: Prefer
    ) -> np.ndarray:
        """Pairs of one prompt (see `pairing.base.Pairing`): [p, 2] int32, (chosen, rejected)."""
        if len(accepted) < 2:
            return np.empty((0, 2), dtype=np.int32)
        best = accepted[rewards[accepted].argmax()]
        few = rng.permutation(accepted[accepted != best])[: self.options.m]
        worst = few[rewards[few].argmin()]
        if rewards[worst] == rewards[best]:
            return np.empty((0, 2), dtype=np.int32)
        pairs, tied = label(np.array([[best, worst]]), prefer, rng, self.options)
        return pairs[~tied]
