"""What every selection rule refuses: a reward that is not a number would decide silently."""

from __future__ import annotations

import numpy as np


def finite(rewards: np.ndarray) -> np.ndarray:
    """The rewards as [n] float64.

    Raises:
        ValueError: one of them is not finite. NaN passes every comparison as false, so rejection sampling as
            printed would always accept it.
    """
    rewards = np.asarray(rewards, dtype=np.float64)
    bad = np.flatnonzero(~np.isfinite(rewards))
    if bad.size:
        first = f"candidate {bad[0]}: {rewards[bad[0]]}"
        raise ValueError(f"{bad.size} of {rewards.size} rewards are not finite ({first}).")
    return rewards
