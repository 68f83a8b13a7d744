"""The first k candidates as sampled: sft-sample-rank, and rejection sampling's limit for beta to infinity.

Rows in: rewards [p, n]. Rows out: the indices 0 .. k-1 of each.

Source: arXiv:2309.06657, section 4 (sft-sample-rank).
"""

from __future__ import annotations

import numpy as np

from rayflow.selection.base import CountOptions
from rayflow.selection.batch import Selections, at_once
from rayflow.selection.checks import finite


class FirstK:
    """Candidates are independent samples, so the first k are k samples of the SFT policy."""

    class Config(CountOptions):
        """No further settings."""

        kind: str = "first_k"

    uses_rewards = False
    draws = False

    def __init__(self, options: Config) -> None:
        self.options = options

    def select(self, rewards: np.ndarray, seeds: np.ndarray) -> Selections:
        """Choose candidates of p prompts (see `selection.base.Selector`)."""
        num_prompts, n = finite(rewards).shape
        k = min(self.options.num_accepted, n)
        return at_once(np.broadcast_to(np.arange(k), (num_prompts, k)), num_visits=k)
