"""The k highest rewards: best-of-N with k = 1, and rejection sampling's limit at beta = 0.

Row in: the rewards of one prompt's candidates. Row out: the accepted indices.

Source: arXiv:2309.06657 (top-k-over-N).
"""

from __future__ import annotations

import numpy as np
from pydantic import Field

from rayflow.core.options import KindOptions
from rayflow.selection.base import Selection
from rayflow.selection.checks import finite


class TopK:
    """Rewards in descending order; ties in a random order of the row's own."""

    class Config(KindOptions):
        """`num_accepted`: responses to accept per prompt."""

        kind: str = "top_k"
        num_accepted: int = Field(default=8, gt=0)

    def __init__(self, options: Config) -> None:
        self.options = options

    def select(self, rewards: np.ndarray, rng: np.random.Generator) -> Selection:
        """Choose candidates of one prompt (see `selection.base.Selector`)."""
        rewards = finite(rewards)
        shuffled = rng.permutation(len(rewards))
        order = shuffled[np.argsort(-rewards[shuffled], kind="stable")]
        accepted = order[: self.options.num_accepted].astype(np.int32)
        return Selection(accepted=accepted, num_rounds=1, num_visits=len(rewards))
