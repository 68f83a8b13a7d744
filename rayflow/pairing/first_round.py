"""first-round-rank: disjoint pairs, every accepted response in at most one of them.

Row in: the accepted indices and the rewards. Row out: floor(k/2) pairs, fewer where ties are dropped.

Source: arXiv:2309.06657, section 4 (first-round-rank).
"""

from __future__ import annotations

import numpy as np

from rayflow.pairing.base import Prefer
from rayflow.pairing.labels import LabelOptions, Ties, label


class FirstRound:
    """Shuffle the accepted responses, then pair neighbours; of an odd number one is left over."""

    class Config(LabelOptions):
        """Settings of `first_round`, besides `labels`.

        Attributes:
            ties: what becomes of an even pair (equal rewards), on which the paper is silent: "drop" it (there
                is no preference to learn), or "random" to keep it with a random label.
        """

        kind: str = "first_round"
        ties: Ties = "drop"

    uses_rewards = False
    leaves_out = False

    def __init__(self, options: Config) -> None:
        self.options = options

    def pair(
        self, accepted: np.ndarray, rewards: np.ndarray, rng: np.random.Generator, prefer: Prefer
    ) -> np.ndarray:
        """Pairs of one prompt (see `pairing.base.Pairing`).

        The shuffle matters: acceptance order is correlated with reward.

        Args:
            accepted: [k] int32 candidate indices.
            rewards: [n] float64, of all candidates.
            rng: the row's own generator.
            prefer: labels a game.

        Returns:
            [p, 2] int32 candidate indices, (chosen, rejected), pairwise disjoint.
        """
        shuffled = rng.permutation(accepted)
        games = shuffled[: len(shuffled) // 2 * 2].reshape(-1, 2)
        pairs, tied = label(games, prefer, rng, self.options)
        return pairs[~tied] if self.options.ties == "drop" else pairs
