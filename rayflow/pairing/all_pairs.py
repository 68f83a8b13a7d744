"""Every two responses with different rewards, as listwise work pairs them.

Row in: the accepted indices and the rewards. Row out: at most k(k-1)/2 pairs.

Source: LiPO, arXiv:2402.01878.
"""

from __future__ import annotations

import numpy as np

from rayflow.core.options import KindOptions


class AllPairs:
    """The higher reward is chosen; equal rewards give no pair."""

    class Config(KindOptions):
        """No settings."""

        kind: str = "all_pairs"

    def __init__(self, options: Config) -> None:
        self.options = options

    def pair(self, accepted: np.ndarray, rewards: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Pairs of one prompt (see `pairing.base.Pairing`): [p, 2] int32, (chosen, rejected)."""
        kept = rewards[accepted]
        chosen, rejected = np.nonzero(kept[:, None] > kept[None, :])
        return np.stack([accepted[chosen], accepted[rejected]], axis=1).astype(np.int32)
