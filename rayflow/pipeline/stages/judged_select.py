"""Judged selection: by new comparisons of candidates. Row in: texts (and rewards). Row out: `Accepted`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from rayflow.config import PoolOptions
from rayflow.core.options import KindOptions, build
from rayflow.core.rows import Accepted, Failure, OrderedAccepted, Responses, Row, Scores
from rayflow.core.seeds import rng
from rayflow.errors import DataError, RewardError
from rayflow.pipeline.stage import SimpleStage, failure_of, row_failure
from rayflow.pipeline.stages.pair import Verdicts
from rayflow.pipeline.stages.select import NOTHING
from rayflow.rewards.base import close_reward, reads_orders
from rayflow.selection.base import distinct


@dataclass(frozen=True, kw_only=True)
class ScoredResponses(Responses, Scores):
    """View: what a judged selection reads if it uses rewards, too."""


@dataclass
class JudgedSelectStage(SimpleStage):
    """Holds a pairwise reward for a selection rule that asks it (`asks = True`), such as `knockout`.

    Attributes:
        scored: whether the candidates have rewards; the rule gets NaN if not.
    """

    name: str
    inputs: tuple[str, ...]
    options: KindOptions
    ranker: KindOptions
    seed: int
    pool: PoolOptions
    scored: bool = True

    actor = True

    @property
    def writes(self) -> type[Row]:
        """With both orders' judgements where the ranker tells them."""
        return OrderedAccepted if reads_orders(build("reward", self.ranker)) else Accepted

    @property
    def reads(self) -> type[Row]:
        """Texts, and rewards where there are any."""
        return ScoredResponses if self.scored else Responses

    @property
    def models(self) -> tuple[str, ...]:
        """The ranker's."""
        return build("reward", self.ranker).models

    def identity(self) -> dict[str, Any]:
        """The rule, the seed, and who judges."""
        return {"select": self.options.identity(), "seed": self.seed, "judge": self.ranker.identity()}

    def setup(self) -> None:
        """Build the rule; load the ranker."""
        self._rule = build("selection", self.options)
        self._ranker: Any = build("reward", self.ranker)
        self._ranker.setup()

    async def process(self, rows: Sequence[Any]) -> Sequence[Accepted | Failure]:
        """Prompt by prompt; an empty choice is a failure, since nothing could follow from it."""
        return [self._one(row) for row in rows]

    def _one(self, row: Any) -> Accepted | Failure:
        rewards = row.rewards if self.scored else np.full(len(row.responses), np.nan)
        verdicts = Verdicts(self._ranker, row)
        try:
            chosen = self._rule.select_one(rewards, rng(self.seed, "select", row.prompt_id), verdicts)
            accepted = distinct(chosen, len(row.responses))
        except Exception as error:
            parts = (self._rule, self._ranker)
            return row_failure(row.prompt_id, "selection failed", error, parts, RewardError, DataError)
        if not len(accepted):
            return failure_of(row.prompt_id, NOTHING, f"of {len(row.responses)} candidates")
        rate = len(accepted) / len(row.responses)
        columns = {"accepted": accepted, "num_rounds": 1, "acceptance_rate": rate}
        if verdicts.orders:
            return OrderedAccepted(prompt_id=row.prompt_id, **columns, **verdicts.orders)
        return Accepted(prompt_id=row.prompt_id, **columns)

    def close(self) -> None:
        """End what the ranker has started, and drop its model."""
        close_reward(self._ranker)
        self._ranker = None
