"""Score: one finite reward per candidate. Row in: `Sampled`. Row out: `Scores`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from rayflow.config import PoolOptions
from rayflow.core.options import KindOptions, build
from rayflow.core.rows import Failure, Prompt, Scores
from rayflow.errors import DataError, RewardError
from rayflow.pipeline.stage import failure_of
from rayflow.rewards.base import Reward


@dataclass(frozen=True, kw_only=True)
class Responses(Prompt):
    """View: what a reward reads. Token ids and log-probabilities stay on disk."""

    responses: tuple[str, ...]


@dataclass
class ScoreStage:
    """Holds one reward per worker. A crash or a non-finite reward is a failure of the row, never 0.0."""

    name: str
    inputs: tuple[str, ...]
    reward_options: KindOptions
    pool: PoolOptions

    reads = Responses
    writes = Scores
    actor = True

    @property
    def models(self) -> tuple[str, ...]:
        """The reward's models."""
        return build("reward", self.reward_options).models

    def identity(self) -> dict[str, Any]:
        """The reward's settings."""
        return {"reward": self.reward_options.identity()}

    def setup(self) -> None:
        """Load the reward."""
        self._reward: Reward = build("reward", self.reward_options)
        self._reward.setup()

    async def process(self, rows: Sequence[Responses]) -> Sequence[Scores | Failure]:
        """Prompt by prompt: the whole group in one call."""
        return [self._one(row) for row in rows]

    def _one(self, row: Responses) -> Scores | Failure:
        try:
            rewards = np.asarray(self._reward.score(row, row.responses), dtype=np.float64)
        except (RewardError, DataError) as error:
            return failure_of(row.prompt_id, "reward failed", str(error))
        if rewards.shape != (len(row.responses),):
            detail = f"shape {rewards.shape} for {len(row.responses)} responses"
            return failure_of(row.prompt_id, "reward has the wrong shape", detail)
        bad = np.flatnonzero(~np.isfinite(rewards))
        if len(bad):
            detail = f"{rewards[bad[0]]} for candidate {bad[0]} ({len(bad)} of {len(rewards)} not finite)"
            return failure_of(row.prompt_id, "reward is not finite", detail)
        return Scores(prompt_id=row.prompt_id, rewards=rewards)

    def count_tokens(self, rows: Sequence[Scores]) -> int:
        """Rewards are counted by candidate, not by token."""
        return 0

    def close(self) -> None:
        """Nothing outlives the worker."""
