"""Every candidate whose scaled reward is above a threshold: the filter of ReST.

Rows in: rewards [p, n]. Rows out: the indices of those above, in the order of sampling; there may be none.

Source: ReST, arXiv:2308.08998, section 3 (improve step, F(x, y; tau) = 1[R(x, y) > tau]).
"""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
from pydantic import Field, model_validator

from rayflow.core.options import KindOptions
from rayflow.selection.batch import Selections
from rayflow.selection.checks import finite


class Threshold:
    """A prompt nothing of which is above the threshold is a failed row with that reason."""

    class Config(KindOptions):
        """Settings of `threshold`.

        Attributes:
            threshold: what a scaled reward must exceed; improve steps raise it.
            scale: what 0 and 1 are. "prompt": the prompt's own lowest and highest reward, so its best is
                always kept; where all are equal, all are the best. "global": `low` and `high`, for all
                prompts alike. "none": rewards are compared as they are.
            shortfall: what becomes of a prompt nothing of which is above: with "keep" it fails, "resample" draws as
                many candidates again, scores them, and looks at all of them.
            max_resamples: how often at most, under "resample".
            low, high: rewards that become 0 and 1 under "global". Where they are not given, they are the lowest
                and the highest stored reward of the run, and selection waits until all scores are there.
        """

        kind: str = "threshold"
        threshold: float = 0.7
        scale: Literal["prompt", "global", "none"] = "prompt"
        shortfall: Literal["keep", "resample"] = "keep"
        max_resamples: int = Field(default=2, gt=0)
        low: float | None = None
        high: float | None = None

        def identity(self) -> dict[str, Any]:
            """The settings that decide the result."""
            unused = set() if self.shortfall == "resample" else {"shortfall", "max_resamples"}
            return {name: value for name, value in super().identity().items() if name not in unused}

        @model_validator(mode="after")
        def _fits(self) -> Threshold.Config:
            low, high = self.low, self.high
            if (low is None) != (high is None) or (low is not None and high is not None and low >= high):
                raise ValueError("'low' must be below 'high'; give both, or neither to have them measured")
            if self.scale == "global" and low is None and self.shortfall == "resample":
                raise ValueError(
                    "further draws would move a measured range: with 'resample' give 'low' and 'high'"
                )
            if self.scale != "global" and (self.low, self.high) != (None, None):
                raise ValueError(f"'low' and 'high' belong to scale 'global', not to '{self.scale}'")
            if self.scale == "prompt" and not 0 <= self.threshold < 1:
                raise ValueError("under scale 'prompt' rewards lie in [0, 1]: 'threshold' must be in [0, 1)")
            if self.scale == "prompt" and self.shortfall == "resample":
                raise ValueError("under scale 'prompt' no prompt is short: its best is always kept")
            return self

    draws = False

    def __init__(self, options: Config) -> None:
        self.options = options
        self.needs_range = options.scale == "global" and options.low is None

    def select(self, rewards: np.ndarray, seeds: np.ndarray) -> Selections:
        """Choose candidates of p prompts (see `selection.base.Selector`)."""
        rewards = finite(rewards)
        num_prompts, n = rewards.shape
        kept = self._scaled(rewards) > self.options.threshold
        return Selections(
            accepted=np.nonzero(kept)[1].astype(np.int32),
            num_accepted=kept.sum(axis=1),
            num_rounds=np.ones(num_prompts, np.int64),
            num_visits=np.full(num_prompts, n, np.int64),
        )

    def _scaled(self, rewards: np.ndarray) -> np.ndarray:
        """[p, n] float64 rewards on the scale of the threshold."""
        options = self.options
        if options.scale == "none":
            return rewards
        if self.needs_range:
            raise ValueError("the range of the run's rewards has not been measured")
        if options.scale == "global":
            low, high = np.float64(options.low), np.float64(options.high)
        else:
            low, high = rewards.min(axis=1, keepdims=True), rewards.max(axis=1, keepdims=True)
        # Halved before subtracting, so that the range of the largest floats is still a number.
        spread = high / 2 - low / 2
        equal = spread == 0
        return np.where(equal, 1.0, (rewards / 2 - low / 2) / np.where(equal, 1.0, spread))
