"""The interface of a reward. Row in: a prompt with its candidates. Row out: one reward per candidate."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np

from rayflow.core.options import KindOptions
from rayflow.core.rows import Prompt


class Reward(Protocol):
    """What every reward offers. Built on the driver without heavy imports; loaded on its worker in `setup`."""

    Config: type[KindOptions]

    def __init__(self, options: KindOptions) -> None: ...

    @property
    def models(self) -> tuple[str, ...]:
        """Model folders or hub ids whose content belongs to the stage's fingerprint; empty for rules."""

    def setup(self) -> None:
        """Load models or import functions.

        Raises:
            ModelError, ConfigError: what was configured cannot be used.
        """

    def score(self, prompt: Prompt, responses: Sequence[str]) -> np.ndarray:
        """Rewards of one prompt's candidates, the whole group in one call.

        Returns:
            [n] float64, higher is better. The caller refuses non-finite values.

        Raises:
            RewardError: the rewards could not be computed; the row becomes a failure.
        """
