"""Every two responses that are not even, as listwise work pairs them.

Row in: the accepted indices and the rewards. Row out: at most k(k-1)/2 pairs.

Source: LiPO, arXiv:2402.01878.
"""

from __future__ import annotations

import numpy as np

from rayflow.pairing.base import Prefer
from rayflow.pairing.labels import LabelOptions, label


class AllPairs:
    """The better one is chosen; even responses give no pair. With a ranker this costs k(k-1)/2 comparisons."""

    class Config(LabelOptions):
        """`labels`: see `LabelOptions`."""

        kind: str = "all_pairs"

    uses_rewards = False
    leaves_out = False

    def __init__(self, options: Config) -> None:
        self.options = options

    def pair(
        self, accepted: np.ndarray, rewards: np.ndarray, rng: np.random.Generator, prefer: Prefer
    ) -> np.ndarray:
        """Pairs of one prompt (see `pairing.base.Pairing`): [p, 2] int32, by the chosen's acceptance order."""
        places = np.stack(np.triu_indices(len(accepted), k=1), axis=1)
        pairs, tied = label(places, lambda games: prefer(accepted[games]), rng, self.options)
        pairs = pairs[~tied]
        in_order = pairs[np.lexsort((pairs[:, 1], pairs[:, 0]))]
        return accepted[in_order].astype(np.int32)
