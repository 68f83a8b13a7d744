"""The k highest rewards: best-of-N with k = 1, and rejection sampling's limit at beta = 0.

Rows in: rewards [p, n]. Rows out: the indices of the k highest of each, in descending order.

Source: arXiv:2309.06657 (top-k-over-N); RAFT, arXiv:2304.06767, keeps the best of K.
"""

from __future__ import annotations

import numpy as np

from rayflow.core import draws
from rayflow.selection.base import CountOptions
from rayflow.selection.batch import Selections, at_once, in_blocks
from rayflow.selection.checks import finite


class TopK:
    """Rewards in descending order; ties in a random order of the row's own."""

    class Config(CountOptions):
        """No further settings."""

        kind: str = "top_k"

    def __init__(self, options: Config) -> None:
        self.options = options

    def select(self, rewards: np.ndarray, seeds: np.ndarray) -> Selections:
        """Choose candidates of p prompts (see `selection.base.Selector`)."""
        return in_blocks(self._block, finite(rewards), np.asarray(seeds, np.uint64))

    def _block(self, rewards: np.ndarray, seeds: np.ndarray) -> Selections:
        n = rewards.shape[1]
        order = np.lexsort((draws.bits(seeds, n), -rewards), axis=1)
        return at_once(order[:, : self.options.num_accepted], num_visits=n)
