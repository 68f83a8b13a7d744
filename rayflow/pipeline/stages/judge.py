"""Judge: a reward model on responses whose preferences are known. Row in: `Example`. Row out: `Judged`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from rayflow.config import PoolOptions
from rayflow.core.evaluation_rows import Judged
from rayflow.core.given_rows import Example
from rayflow.core.model_folder import load_tokenizer
from rayflow.core.options import KindOptions, build
from rayflow.core.rows import Failure
from rayflow.core.stats import logit
from rayflow.errors import DataError, RewardError
from rayflow.pipeline.stage import row_failure
from rayflow.rewards.base import close_reward, is_pairwise, preferences
from rayflow.rewards.scoring import scores_of


@dataclass
class JudgeStage:
    """Uses a reward model as a run would: through the reward that loads its folder.

    Attributes:
        inputs: the rows, then the stage that trained the model, whose fingerprint stands for its content.
        model: what was trained; its tokenizer counts the responses' tokens.
        reward_options: the reward that loads it.
    """

    name: str
    inputs: tuple[str, ...]
    model: str
    reward_options: KindOptions
    pool: PoolOptions

    reads = Example
    writes = Judged
    models = ()
    actor = True

    def identity(self) -> dict[str, Any]:
        """The reward's settings, but not where its folder lies."""
        settings = self.reward_options.identity()
        return {"reward": {key: value for key, value in settings.items() if key != "model"}}

    def setup(self) -> None:
        """Load the reward."""
        self._tokenizer = load_tokenizer(self.model)
        self._reward = build("reward", self.reward_options)
        self._reward.setup()

    async def process(self, rows: Sequence[Example]) -> Sequence[Judged | Failure]:
        """Row by row: all responses, or all pairs, in one call."""
        return [self._one(row) for row in rows]

    def _one(self, row: Example) -> Judged | Failure:
        pairs, scores = np.stack(row.pairs), np.empty(0)
        try:
            if is_pairwise(self._reward):
                margins = logit(preferences(self._reward, row, row.responses, pairs, row.cut))
            else:
                scores = scores_of(self._reward, row, row.responses, row.cut)
                margins = scores[pairs[:, 0]] - scores[pairs[:, 1]]
        except Exception as error:
            return row_failure(row.prompt_id, "reward failed", error, (self._reward,), RewardError, DataError)
        ids = self._tokenizer(list(row.responses), add_special_tokens=False)["input_ids"]
        num_tokens = np.array([len(each) for each in ids], dtype=np.int32)
        return Judged(prompt_id=row.prompt_id, margins=margins, scores=scores, num_tokens=num_tokens)

    def count_tokens(self, rows: Sequence[Judged]) -> int:
        """Responses' tokens."""
        return sum(int(row.num_tokens.sum()) for row in rows)

    def close(self) -> None:
        """End what the reward has started, and drop its model."""
        close_reward(self._reward)
        self._reward = None
