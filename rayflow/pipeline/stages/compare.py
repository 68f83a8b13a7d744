"""Compare: two policies' responses by a pairwise reward. Rows in: `Answers` of both. Row out: `ComparedVerdict`.

A ranker's stored rewards are relative to one response of each prompt's own group, so rewards of two groups
cannot be compared; the responses themselves can.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from rayflow.config import PoolOptions
from rayflow.core.evaluation_rows import Answers, ComparedVerdict
from rayflow.core.options import KindOptions, build
from rayflow.core.rows import Failure
from rayflow.errors import DataError, RewardError
from rayflow.evaluation.pairwise import compare_all, compared_verdict
from rayflow.pipeline.artifact import Artifact
from rayflow.pipeline.stage import row_failure
from rayflow.pipeline.stages.evaluate import paired
from rayflow.rewards.base import PairwiseReward, close_reward


@dataclass
class CompareStage:
    """Holds one pairwise reward per worker; every response meets every one of the other side.

    Attributes:
        inputs: the prompts, the baseline's answers, the policy's answers.
    """

    name: str
    inputs: tuple[str, str, str]
    reward_options: KindOptions
    pool: PoolOptions

    reads = Answers
    writes = ComparedVerdict
    actor = True

    @property
    def models(self) -> tuple[str, ...]:
        """The reward's models."""
        return build("reward", self.reward_options).models

    def identity(self) -> dict[str, Any]:
        """The reward's settings, and what is kept: before there were the comparisons, only their means were."""
        return {"reward": self.reward_options.identity(), "keeps": "each comparison"}

    def setup(self) -> None:
        """Load the reward."""
        self._reward: PairwiseReward = build("reward", self.reward_options)
        self._reward.setup()

    def read(self, sources: Sequence[Artifact], index: int) -> list[tuple[Answers, Answers]]:
        """(policy, baseline) of the prompts of one shard that both answered."""
        prompts, baseline, policy = sources
        return paired([prompts, policy], [prompts, baseline], index, Answers)

    async def process(self, rows: Sequence[tuple[Answers, Answers]]) -> Sequence[ComparedVerdict | Failure]:
        """Prompt by prompt, all comparisons in one call."""
        return [self._one(policy, baseline) for policy, baseline in rows]

    def _one(self, policy: Answers, baseline: Answers) -> ComparedVerdict | Failure:
        try:
            preferred = compare_all(self._reward, baseline, policy.responses, policy.cut)
        except Exception as error:
            parts = (self._reward,)
            return row_failure(policy.prompt_id, "comparison failed", error, parts, RewardError, DataError)
        return compared_verdict(policy, baseline, preferred)

    def count_tokens(self, rows: Sequence[ComparedVerdict]) -> int:
        """Judgements are counted by prompt, not by token."""
        return 0

    def close(self) -> None:
        """End what the reward has started, and drop its model."""
        close_reward(self._reward)
        self._reward = None
