"""tournament-rank: winners play on until one is left, every game is a pair.

Row in: the accepted indices and the rewards. Row out: k-1 pairs, fewer where ties are dropped. The winners
of early rounds appear again, so the pairs lean towards high rewards.

Source: arXiv:2309.06657, section 4 (tournament-rank).
"""

from __future__ import annotations

import numpy as np

from rayflow.pairing.base import Prefer
from rayflow.pairing.labels import LabelOptions, Ties, label


class Tournament:
    """A knockout of the accepted responses in a random draw.

    With an odd number of players in a round, the last one has a bye; it then stands first in the next
    round, so that nobody has two byes in a row.
    """

    class Config(LabelOptions):
        """Settings of `tournament`, besides `labels`.

        Attributes:
            ties: what becomes of an even game (equal rewards), on which the paper is silent. A random player
                moves on either way; "drop" leaves the game out of the pairs, "random" keeps it.
        """

        kind: str = "tournament"
        ties: Ties = "drop"

    uses_rewards = False
    leaves_out = False

    def __init__(self, options: Config) -> None:
        self.options = options

    def pair(
        self, accepted: np.ndarray, rewards: np.ndarray, rng: np.random.Generator, prefer: Prefer
    ) -> np.ndarray:
        """Pairs of one prompt, round by round (see `pairing.base.Pairing`).

        Args:
            accepted: [k] int32 candidate indices.
            rewards: [n] float64, of all candidates.
            rng: the row's own generator.
            prefer: labels a game.

        Returns:
            [p, 2] int32 candidate indices, (chosen, rejected); an index is rejected at most once.
        """
        players = rng.permutation(accepted)
        rounds = [np.empty((0, 2), dtype=np.int32)]
        while len(players) > 1:
            bye = players[len(players) // 2 * 2 :]
            games, tied = label(players[: len(players) - len(bye)].reshape(-1, 2), prefer, rng, self.options)
            rounds.append(games[~tied] if self.options.ties == "drop" else games)
            players = np.concatenate([bye, games[:, 0]])
        return np.concatenate(rounds)
