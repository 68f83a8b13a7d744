"""Exact sampling without replacement from softmax(r / beta) over the candidates. Beyond the RSO paper.

Row in: the rewards of one prompt's candidates. Row out: the accepted indices.

Rejection sampling over a finite set is not softmax sampling; this is (the Gumbel-top-k trick).
Source: Kool et al., arXiv:1903.06059.
"""

from __future__ import annotations

import numpy as np
from pydantic import Field

from rayflow.core.options import KindOptions
from rayflow.selection.base import Selection
from rayflow.selection.checks import finite


class Gumbel:
    """The k largest r / beta + Gumbel noise, in that order; each next one is softmax over those that remain."""

    class Config(KindOptions):
        """`beta`: temperature, > 0, in units of the reward; `num_accepted`: responses to accept per prompt."""

        kind: str = "gumbel"
        beta: float = Field(default=0.5, gt=0, allow_inf_nan=False)
        num_accepted: int = Field(default=8, gt=0)

    def __init__(self, options: Config) -> None:
        self.options = options

    def select(self, rewards: np.ndarray, rng: np.random.Generator) -> Selection:
        """Choose candidates of one prompt (see `selection.base.Selector`)."""
        rewards = finite(rewards)
        # The maximum is taken away first, so that a small beta cannot overflow.
        with np.errstate(over="ignore"):  # a gap beyond the range of floats is -inf: never before the others
            keys = (rewards - rewards.max(initial=-np.inf)) / self.options.beta
        keys += rng.gumbel(size=len(rewards))
        accepted = np.argsort(-keys)[: self.options.num_accepted].astype(np.int32)
        return Selection(accepted=accepted, num_rounds=1, num_visits=len(rewards))
