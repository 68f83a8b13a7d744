"""Exact sampling without replacement from softmax(r / beta) over the candidates. Beyond the RSO paper.

Rows in: rewards [p, n]. Rows out: k indices of each, in the order of the draws.

Rejection sampling over a finite set is not softmax sampling; this is (the Gumbel-top-k trick).
Source: Kool et al., arXiv:1903.06059.
"""

from __future__ import annotations

import numpy as np
from pydantic import Field

from rayflow.core import draws
from rayflow.selection.base import CountOptions
from rayflow.selection.batch import Selections, at_once, in_blocks
from rayflow.selection.checks import finite


class Gumbel:
    """The k largest r / beta + Gumbel noise, in that order; each next one is softmax over those that remain."""

    class Config(CountOptions):
        """`beta`: temperature, > 0, in units of the reward."""

        kind: str = "gumbel"
        beta: float = Field(default=0.5, gt=0)

    def __init__(self, options: Config) -> None:
        self.options = options

    def select(self, rewards: np.ndarray, seeds: np.ndarray) -> Selections:
        """Choose candidates of p prompts (see `selection.base.Selector`)."""
        return in_blocks(self._block, finite(rewards), np.asarray(seeds, np.uint64))

    def _block(self, rewards: np.ndarray, seeds: np.ndarray) -> Selections:
        n = rewards.shape[1]
        # The maximum is taken away first, so that a small beta cannot overflow upwards.
        with np.errstate(over="ignore"):  # a gap beyond the range of floats is -inf: never before the others
            keys = (rewards - rewards.max(axis=1, keepdims=True)) / self.options.beta
        order = np.argsort(-(keys + draws.gumbel(seeds, n)), axis=1)
        return at_once(order[:, : self.options.num_accepted], num_visits=n)
