"""Side by side: a judge's sampled verdicts on two answers. Row in: `Answers` of both. Out: `SideBySideVerdicts`."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from rayflow.config import PoolOptions
from rayflow.config.side_by_side import SideBySideOptions
from rayflow.core.evaluation_rows import Answers, SideBySideVerdicts
from rayflow.core.options import build
from rayflow.core.rows import Failure
from rayflow.core.seeds import sampling_seed
from rayflow.errors import DataError, RewardError
from rayflow.judges.base import Judge, JudgeSampling
from rayflow.judges.template import load_template
from rayflow.judges.verdict import parse_verdict
from rayflow.pipeline.artifact import Artifact
from rayflow.pipeline.stage import row_failure
from rayflow.pipeline.stages.evaluate import paired


@dataclass
class SideBySideStage:
    """Holds one judge per worker; both orders of an item are asked about at the same time.

    Attributes:
        inputs: the prompts, the baseline's answers, the policy's answers.
    """

    name: str
    inputs: tuple[str, str, str]
    options: SideBySideOptions
    seed: int
    pool: PoolOptions

    reads = Answers
    writes = SideBySideVerdicts
    actor = True

    @property
    def models(self) -> tuple[str, ...]:
        """The judge's."""
        return build("judge", self.options.judge).models

    def identity(self) -> dict[str, Any]:
        """The judge, what it reads, and how often it is asked; not what its verdicts are then taken for."""
        judge = self.options.judge.identity()
        if self.models:  # their content stands for them, wherever they lie
            judge.pop("model", None)
        return {
            "judge": judge,
            "template": load_template(self.options.template).digest,
            "sampling": self._sampling.identity(),
            "num_verdicts": self.options.num_verdicts,
            "num_items": self.options.num_items,
            "seed": self.seed,
        }

    @property
    def _sampling(self) -> JudgeSampling:
        return JudgeSampling(**{name: getattr(self.options, name) for name in JudgeSampling.model_fields})

    def setup(self) -> None:
        """Load the judge."""
        self._template = load_template(self.options.template)
        self._judge: Judge = build("judge", self.options.judge)
        self._judge.setup()

    def read(self, sources: Sequence[Artifact], index: int) -> list[tuple[Answers, Answers]]:
        """(policy, baseline) of the prompts of one shard that both answered."""
        prompts, baseline, policy = sources
        return paired([prompts, policy], [prompts, baseline], index, Answers)

    async def process(
        self, rows: Sequence[tuple[Answers, Answers]]
    ) -> Sequence[SideBySideVerdicts | Failure]:
        """All prompts of the shard at once; the judge queues what it cannot take yet."""
        return await asyncio.gather(*(self._one(policy, baseline) for policy, baseline in rows))

    async def _one(self, policy: Answers, baseline: Answers) -> SideBySideVerdicts | Failure:
        pairs = list(zip(policy.responses, baseline.responses, strict=False))[: self.options.num_items]
        asked = [(i, swapped) for i in range(len(pairs)) for swapped in (False, True)]
        try:
            found = await asyncio.gather(*(self._answers(policy, i, *pairs[i], s) for i, s in asked))
        except Exception as error:
            kinds = (DataError, RewardError, ValueError)
            return row_failure(policy.prompt_id, "judge failed", error, (self._judge,), *kinds)
        half = self.options.num_verdicts // 2
        swapped = np.repeat(np.array([s for _, s in asked]), half)
        answers = tuple(answer for each in found for answer in each)
        first = [parse_verdict(answer, self._template.asks_at_once) for answer in answers]
        shown = np.array([np.nan if value is None else value for value in first])
        return SideBySideVerdicts(
            prompt_id=policy.prompt_id,
            num_items=len(pairs),
            judge_answers=answers,
            judge_swapped=swapped.astype(np.int32),
            judge_verdicts=np.where(swapped, 1 - shown, shown),
        )

    async def _answers(
        self, prompt: Answers, item: int, policy: str, baseline: str, swapped: bool
    ) -> tuple[str, ...]:
        """The judge's answers to one item in one order."""
        first, second = (baseline, policy) if swapped else (policy, baseline)
        seed = sampling_seed(self.seed, "judge", prompt.prompt_id, item, int(swapped))
        text = self._template.fill(prompt.text, first, second)
        return await self._judge.answers(text, self.options.num_verdicts // 2, self._sampling, seed)

    def count_tokens(self, rows: Sequence[SideBySideVerdicts]) -> int:
        """Verdicts are counted by prompt, not by token."""
        return 0

    def close(self) -> None:
        """Free the judge."""
        self._judge.close()
