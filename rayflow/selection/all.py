"""Every candidate, in the order of sampling: what RS-DPO and RRHF pair or rank.

Row in: the rewards of one prompt's candidates. Row out: the accepted indices.

Source: RS-DPO, arXiv:2402.10038, section 3.
"""

from __future__ import annotations

import numpy as np

from rayflow.core.options import KindOptions
from rayflow.selection.base import Selection
from rayflow.selection.checks import finite


class All:
    """Nothing is left out; the pairing decides."""

    class Config(KindOptions):
        """No settings."""

        kind: str = "all"

    def __init__(self, options: Config) -> None:
        self.options = options

    def select(self, rewards: np.ndarray, rng: np.random.Generator) -> Selection:
        """Choose candidates of one prompt (see `selection.base.Selector`)."""
        accepted = np.arange(len(finite(rewards)), dtype=np.int32)
        return Selection(accepted=accepted, num_rounds=1, num_visits=len(accepted))
