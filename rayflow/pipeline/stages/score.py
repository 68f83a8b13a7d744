"""Score: one finite reward per candidate. Row in: `Responses`. Row out: `Scores`, or `ComponentScores`."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from rayflow.config import PoolOptions
from rayflow.core.given_rows import Example
from rayflow.core.options import KindOptions, build
from rayflow.core.rows import ComponentScores, Failure, OrderedScores, Responses, Row, Scores
from rayflow.errors import DataError, RewardError
from rayflow.pipeline.stage import failure_of, row_failure
from rayflow.rewards.base import Reward, close_reward, components_of, reads_orders
from rayflow.rewards.scoring import scored


@dataclass
class ScoreStage:
    """Holds one reward per worker. A crash or a non-finite reward is a failure of the row, never 0.0."""

    name: str
    inputs: tuple[str, ...]
    reward_options: KindOptions
    pool: PoolOptions

    reads = Responses
    actor = True

    @property
    def writes(self) -> type[Row]:
        """With the parts where the reward has parts, with both orders' judgements where it tells them."""
        reward = build("reward", self.reward_options)
        if components_of(reward):
            return ComponentScores
        return OrderedScores if reads_orders(reward) else Scores

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
        """Prompt by prompt, the whole group in one call; several at a time where a call only waits."""
        if getattr(self._reward, "waits", False):
            return await asyncio.gather(*(asyncio.to_thread(self._one, row) for row in rows))
        return [self._one(row) for row in rows]

    def _one(self, row: Responses) -> Scores | Failure:
        try:
            found = scored(self._reward, row, row.responses, row.cut)
        except Exception as error:
            return row_failure(row.prompt_id, "reward failed", error, (self._reward,), RewardError, DataError)
        n = len(row.responses)
        for values in (found.rewards, *found.parts, found.variances):
            if values.shape != (n,):
                detail = f"shape {values.shape} for {n} responses"
                return failure_of(row.prompt_id, "reward has the wrong shape", detail)
            bad = np.flatnonzero(~np.isfinite(values))
            if len(bad):
                detail = f"{values[bad[0]]} for candidate {bad[0]} ({len(bad)} of {n} not finite)"
                return failure_of(row.prompt_id, "reward is not finite", detail)
        if not components_of(self._reward):
            return _scores(row.prompt_id, found.rewards, found.orders)
        return ComponentScores(
            prompt_id=row.prompt_id,
            rewards=found.rewards,
            component_rewards=found.parts,
            variances=found.variances,
        )

    def count_tokens(self, rows: Sequence[Scores]) -> int:
        """Rewards are counted by candidate, not by token."""
        return 0

    def close(self) -> None:
        """End what the reward has started, and drop its model."""
        close_reward(self._reward)
        self._reward = None


class GivenScoreStage(ScoreStage):
    """Rewards of given responses: the data's own scores, or the reward's for a group with any that has none.

    A group is scored as a whole, since the data's scores and the reward's have no common scale. Under data with
    all scores the reward is never loaded.
    """

    reads = Example
    writes = Scores

    def setup(self) -> None:
        """Nothing yet: most data either has scores or has none."""
        self._loaded = False

    async def process(self, rows: Sequence[Example]) -> Sequence[Scores | Failure]:
        """Row by row; what is to be scored as sampled responses are."""
        unscored = [row for row in rows if not np.isfinite(row.rewards).all()]
        if unscored and not self._loaded:
            super().setup()
            self._loaded = True
        made = await super().process(unscored) if unscored else []
        found = {row.prompt_id: outcome for row, outcome in zip(unscored, made, strict=True)}
        return [
            found.get(row.prompt_id) or Scores(prompt_id=row.prompt_id, rewards=row.rewards) for row in rows
        ]

    def close(self) -> None:
        """End what the reward has started, if it was needed."""
        if self._loaded:
            super().close()


def _scores(prompt_id: str, rewards: np.ndarray, orders: np.ndarray | None) -> Scores:
    if orders is None:
        return Scores(prompt_id=prompt_id, rewards=rewards)
    first, second = orders.T
    return OrderedScores(prompt_id=prompt_id, rewards=rewards, shown_first=first, shown_second=second)
