"""Range: the lowest and the highest stored reward of a run, for a rule that scales all prompts alike."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from rayflow.core.rows import Scores
from rayflow.errors import DataError
from rayflow.pipeline.report_columns import flat
from rayflow.pipeline.stage import StageContext, read_table


@dataclass
class RangeStage:
    """One pass over the finished scores, one shard in memory at a time. The two numbers are in its manifest."""

    name: str
    inputs: tuple[str]
    models: tuple[str, ...] = ()

    def identity(self) -> dict[str, Any]:
        """Nothing but the scores decides."""
        return {}

    def run(self, context: StageContext) -> dict[str, Any]:
        """`low` and `high`, in units of the reward, for the manifest.

        Raises:
            DataError: there is no score.
        """
        context.artifact.begin(context.identity, num_shards=0)
        scored = context.artifacts[self.inputs[0]]
        low, high = np.inf, -np.inf
        for index in range(scored.num_shards):
            rewards, _ = flat(read_table([scored], index, Scores).column("rewards"))
            low, high = rewards.min(initial=low), rewards.max(initial=high)
        if low > high:
            raise DataError(f"{scored.folder} holds no scores: every prompt failed. See its failures.jsonl.")
        return {"low": float(low), "high": float(high)}
