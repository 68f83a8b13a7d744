"""The RS-DPO pairs: every two responses whose rewards are far enough apart.

Row in: the accepted indices and the rewards. Row out: at most k(k-1)/2 pairs.

Source: RS-DPO, arXiv:2402.10038, Algorithm 1 (PDGRS).
"""

from __future__ import annotations

import numpy as np
from pydantic import Field

from rayflow.core.options import KindOptions
from rayflow.pairing.base import Prefer


class Gap:
    """All ordered pairs with sigmoid((r_chosen - r_rejected) / tau) > eta."""

    class Config(KindOptions):
        """Settings of `gap`; only tau * logit(eta), the smallest difference of rewards, matters.

        Attributes:
            tau: temperature, in units of the reward (the paper tried 0.8 to 1.2).
            eta: threshold (the paper tried 0.80, 0.85, 0.90); from 0.5 on, no pair comes in both orders.
        """

        kind: str = "gap"
        tau: float = Field(default=1.0, gt=0)
        eta: float = Field(default=0.85, ge=0.5, lt=1)

    asks = False

    def __init__(self, options: Config) -> None:
        self.options = options

    def pair(
        self, accepted: np.ndarray, rewards: np.ndarray, rng: np.random.Generator, prefer: Prefer
    ) -> np.ndarray:
        """Pairs of one prompt (see `pairing.base.Pairing`): [p, 2] int32, (chosen, rejected)."""
        threshold = self.options.tau * np.log(self.options.eta / (1 - self.options.eta))
        kept = rewards[accepted]
        chosen, rejected = np.nonzero(kept[:, None] - kept[None, :] > threshold)
        return np.stack([accepted[chosen], accepted[rejected]], axis=1).astype(np.int32)
