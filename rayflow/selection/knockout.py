"""The winner of a tournament of all candidates: the best of n where the reward compares two at a time.

Row in: one prompt's candidates. Row out: one accepted index, after n - 1 games.

Source: RAFT (arXiv:2304.06767) as RSO ran it with a pairwise ranker (arXiv:2309.06657, section 4).
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from rayflow.core.options import KindOptions
from rayflow.selection.base import PerRow

Prefer = Callable[[np.ndarray], np.ndarray]


class Knockout(PerRow):
    """A random draw, winners play on; the last of an odd number has a bye and stands first in the next round.

    `asks`: games are judged by the pairwise reward, if that is what the run has; a pointwise reward's winner is
    a candidate of the highest reward.
    """

    asks = True
    num_accepted = 1  # always
    uses_rewards = False  # where games are judged

    class Config(KindOptions):
        """No settings: one response is accepted."""

        kind: str = "knockout"

    def __init__(self, options: Config) -> None:
        self.options = options

    def select_one(
        self, rewards: np.ndarray, rng: np.random.Generator, prefer: Prefer | None = None
    ) -> np.ndarray:
        """The winner among one prompt's candidates.

        Args:
            rewards: [n] float64; only its length counts where games are judged (NaN if there are none).
            rng: the prompt's own generator.
            prefer: pairs [p, 2] of candidates to [p] float64, the probability that the first is better; None
                compares the rewards. Even games are decided by a coin.

        Returns:
            [1] int32.
        """
        prefer = prefer or _by_reward(rewards)
        players = rng.permutation(len(rewards))
        while len(players) > 1:
            games = players[: len(players) // 2 * 2].reshape(-1, 2)
            bye = players[games.size :]
            chance = prefer(games)
            first_wins = np.where(chance == 0.5, rng.random(len(games)) < 0.5, chance > 0.5)
            players = np.concatenate([bye, np.where(first_wins, games[:, 0], games[:, 1])])
        return players.astype(np.int32)


def _by_reward(rewards: np.ndarray) -> Prefer:
    def prefer(games: np.ndarray) -> np.ndarray:
        first, second = rewards[games[:, 0]], rewards[games[:, 1]]
        return np.where(first == second, 0.5, (first > second).astype(np.float64))

    return prefer
