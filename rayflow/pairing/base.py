"""The interface of a pairing rule. Row in: accepted indices and rewards. Row out: (chosen, rejected) pairs."""

from __future__ import annotations

from typing import Protocol

import numpy as np

from rayflow.core.options import KindOptions


class Pairing(Protocol):
    """What every pairing rule offers: a pure function of one prompt's accepted candidates."""

    Config: type[KindOptions]

    def __init__(self, options: KindOptions) -> None: ...

    def pair(self, accepted: np.ndarray, rewards: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Pairs of one prompt.

        Args:
            accepted: [k] int32 candidate indices in acceptance order.
            rewards: [n] float64, of all candidates; label = the higher reward of the two.
            rng: the row's own generator.

        Returns:
            [p, 2] int32 candidate indices, (chosen, rejected). p may be 0 (all tied, or k < 2).
        """
