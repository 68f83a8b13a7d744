"""No pairs: for losses over responses or whole groups (RAFT, ReST, RRHF).

Row in: the accepted indices and the rewards. Row out: nothing to compare.
"""

from __future__ import annotations

import numpy as np

from rayflow.core.options import KindOptions
from rayflow.pairing.base import Prefer


class NoPairs:
    """Leaves every accepted response unpaired."""

    class Config(KindOptions):
        """No settings."""

        kind: str = "none"

    asks = False
    uses_rewards = False

    def __init__(self, options: Config) -> None:
        self.options = options

    def pair(
        self, accepted: np.ndarray, rewards: np.ndarray, rng: np.random.Generator, prefer: Prefer
    ) -> np.ndarray:
        """No pair of one prompt (see `pairing.base.Pairing`): [0, 2] int32."""
        return np.empty((0, 2), dtype=np.int32)
