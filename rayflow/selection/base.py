"""The interface of a selection rule. Row in: rewards [n]. Row out: accepted indices [k]."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np

from rayflow.core.options import KindOptions


@dataclass(frozen=True)
class Selection:
    """Outcome for one prompt.

    Attributes:
        accepted: [k] int32 candidate indices, distinct, in acceptance order.
        num_rounds: passes over the remaining candidates.
        num_visits: acceptance decisions made; acceptance rate = k / num_visits.
    """

    accepted: np.ndarray
    num_rounds: int
    num_visits: int


class Selector(Protocol):
    """What every selection rule offers: a pure function of one prompt's rewards and its generator."""

    Config: type[KindOptions]

    def __init__(self, options: KindOptions) -> None: ...

    def select(self, rewards: np.ndarray, rng: np.random.Generator) -> Selection:
        """Choose candidates of one prompt.

        Args:
            rewards: [n] float64, finite.
            rng: the row's own generator.

        Raises:
            ValueError: a reward is not finite.
        """
