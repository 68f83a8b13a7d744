"""Every candidate, in the order of sampling: what RS-DPO and RRHF pair or rank.

Rows in: rewards [p, n]. Rows out: all n indices of each.

Source: RS-DPO, arXiv:2402.10038, section 3.
"""

from __future__ import annotations

import numpy as np

from rayflow.core.options import KindOptions
from rayflow.selection.batch import Selections, at_once
from rayflow.selection.checks import finite


class All:
    """Nothing is left out; the pairing decides."""

    class Config(KindOptions):
        """No settings."""

        kind: str = "all"

    uses_rewards = False
    draws = False

    def __init__(self, options: Config) -> None:
        self.options = options

    def select(self, rewards: np.ndarray, seeds: np.ndarray) -> Selections:
        """Choose candidates of p prompts (see `selection.base.Selector`)."""
        num_prompts, n = finite(rewards).shape
        return at_once(np.broadcast_to(np.arange(n), (num_prompts, n)), num_visits=n)
