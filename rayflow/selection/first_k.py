"""The first k candidates as sampled: sft-sample-rank, and rejection sampling's limit for beta to infinity.

Row in: the rewards of one prompt's candidates. Row out: the accepted indices.

Source: arXiv:2309.06657, section 4 (sft-sample-rank).
"""

from __future__ import annotations

import numpy as np
from pydantic import Field

from rayflow.core.options import KindOptions
from rayflow.selection.base import Selection
from rayflow.selection.checks import finite


class FirstK:
    """Candidates are independent samples, so the first k are k samples of the SFT policy."""

    class Config(KindOptions):
        """`num_accepted`: responses to accept per prompt."""

        kind: str = "first_k"
        num_accepted: int = Field(default=8, gt=0)

    def __init__(self, options: Config) -> None:
        self.options = options

    def select(self, rewards: np.ndarray, rng: np.random.Generator) -> Selection:
        """Choose candidates of one prompt (see `selection.base.Selector`)."""
        accepted = np.arange(min(self.options.num_accepted, len(finite(rewards))), dtype=np.int32)
        return Selection(accepted=accepted, num_rounds=1, num_visits=len(accepted))
