"""What every selection rule refuses: a reward that is not a number would decide silently."""

from __future__ import annotations

import numpy as np


def finite(rewards: np.ndarray) -> np.ndarray:
    """The rewards as [p, n] float64.

    Raises:
        ValueError: one of them is not finite. NaN passes every comparison as false, so rejection sampling as
            printed would always accept it.
    """
    rewards = np.asarray(rewards, dtype=np.float64)
    good = np.isfinite(rewards)
    if not good.all():
        row, candidate = np.argwhere(~good)[0]
        raise ValueError(
            f"{(~good).sum()} of {rewards.size} rewards are not finite "
            f"(row {row}, candidate {candidate}: {rewards[row, candidate]})."
        )
    return rewards
