"""Which of two responses is preferred: the pointwise labeller that the pairing rules share.

The paper labels with a fresh call of a pairwise ranker; this labeller reads the rewards that are there. It
says nothing about ties: here a tie gets a random winner, and the pairing rule decides whether to keep it.
"""

from __future__ import annotations

from typing import Literal

import numpy as np

Ties = Literal["drop", "random"]
"""What becomes of a pair with equal rewards: left out, or kept with a random label."""


def label(pairs: np.ndarray, rewards: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Order each pair by reward, the higher one first; ties by the flip of a coin.

    Args:
        pairs: [p, 2] int32 candidate indices.
        rewards: [n] float64, finite, of all candidates.
        rng: the row's own generator.

    Returns:
        labelled: [p, 2] int32 candidate indices, (chosen, rejected).
        tied: [p] bool, the pairs with equal rewards.
    """
    first, second = rewards[pairs[:, 0]], rewards[pairs[:, 1]]
    tied = first == second
    swap = np.where(tied, rng.random(len(pairs)) < 0.5, first < second)
    return np.where(swap[:, None], pairs[:, ::-1], pairs).astype(np.int32), tied
