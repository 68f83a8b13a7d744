"""The interface of a pairing rule. Row in: accepted indices and rewards. Row out: (chosen, rejected) pairs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import numpy as np

from rayflow.core.options import KindOptions

Prefer = Callable[[np.ndarray], np.ndarray]
"""Pairs [p, 2] of candidate indices to [p] float64, the probability that the first of the two is better.

A pointwise reward says 1, 0 or (equal rewards) 0.5. A pairwise one judges each pair anew, which costs a
comparison: a rule asks for the labels that it needs, once.
"""


class Pairing(Protocol):
    """What every pairing rule offers: a pure function of one prompt's accepted candidates.

    A rule that never asks `prefer` says so with the class attribute `asks = False`; then no ranker is loaded. One
    that looks at no reward itself, whatever `prefer` may do, says `uses_rewards = False`: if nothing else in the
    run reads them, the candidates are not scored, and `rewards` is empty. One that pairs the accepted responses
    all but for ties and a last odd one says `leaves_out = False`: the reference then does not wait for its pairs.

    A fingerprint holds the name and the settings of a rule of your own, not its code: after an edit, run with
    `--force-stage pair`.
    """

    Config: type[KindOptions]

    def __init__(self, options: KindOptions) -> None: ...

    def pair(
        self, accepted: np.ndarray, rewards: np.ndarray, rng: np.random.Generator, prefer: Prefer
    ) -> np.ndarray:
        """Pairs of one prompt.

        Args:
            accepted: [k] int32 candidate indices in acceptance order.
            rewards: [n] float64, of all candidates; empty where nothing scored them.
            rng: the row's own generator.
            prefer: which of two candidates is better; where a rule asks for a label, this gives it.

        Returns:
            [p, 2] int32 candidate indices, (chosen, rejected). p may be 0 (all tied, or k < 2).
        """
