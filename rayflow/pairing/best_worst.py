"""One pair per prompt: the highest against the lowest reward.

Row in: the accepted indices and the rewards. Row out: one pair, or none if all rewards are equal.
"""

from __future__ import annotations

import numpy as np

from rayflow.pairing.base import Prefer
from rayflow.pairing.labels import LabelOptions, label


class BestWorst:
    """Of equally good (or bad) responses the one accepted first is taken.

    The two are found by their rewards; which of them is chosen is asked, so a ranker may disagree.
    """

    class Config(LabelOptions):
        """`labels`: see `LabelOptions`."""

        kind: str = "best_worst"

    def __init__(self, options: Config) -> None:
        self.options = options

    def pair(
        self, accepted: np.ndarray, rewards: np.ndarray, rng: np.random.Generator, prefer: Prefer
    ) -> np.ndarray:
        """Pairs of one prompt (see `pairing.base.Pairing`): [p, 2] int32, (chosen, rejected)."""
        kept = rewards[accepted]
        if len(kept) < 2 or kept.max() == kept.min():
            return np.empty((0, 2), dtype=np.int32)
        extremes = np.array([[accepted[kept.argmax()], accepted[kept.argmin()]]])
        pairs, tied = label(extremes, prefer, rng, self.options)
        return pairs[~tied]
