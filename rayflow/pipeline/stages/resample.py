"""Resample: more candidates for the prompts that selection leaves short. Rows out: whole groups, grown.

Two stages for each further draw. The first applies the selection rule to what is stored, and where it finds
too few it samples again; the second scores. Their rows take the place of the first draw's rows (`amends`), so
whatever reads candidates or rewards later finds the grown group and needs to know nothing of this.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from rayflow.core.rows import Candidates, ComponentScores, Failure, Responses, Row, Scored, Scores
from rayflow.pipeline.artifact import Artifact
from rayflow.pipeline.stage import read_rows
from rayflow.pipeline.stages.sample import SampleStage
from rayflow.pipeline.stages.score import ScoreStage
from rayflow.pipeline.stages.select import SelectStage
from rayflow.rewards.base import is_relative


@dataclass(kw_only=True)
class ResampleStage(SampleStage):
    """Draws as many candidates again, with seeds of their own, behind those that a short prompt has.

    Its `inputs` are the prompts, the candidates so far and their rewards. A prompt whose further draw fails
    keeps what it has.

    Attributes:
        select: the selection that is to have enough to choose from.
        draw: number of this draw, from 1; the sample stage's is 0.
    """

    select: SelectStage
    draw: int

    reads = Scored
    amends = "sample"

    def identity(self) -> dict[str, Any]:
        """What sampling depends on, and which prompts are short."""
        return {**super().identity(), **self.select.identity(), "draw": self.draw}

    def setup(self) -> None:
        """Nothing yet: an engine is started for the first short prompt, if there is one."""
        self._engine = None  # type: ignore[assignment]

    def read(self, sources: Sequence[Artifact], index: int) -> list[Scored]:
        """The short prompts of one shard; of the others nothing but the selection's columns is read."""
        rows = read_rows(sources[1:], index, self.select.reads)
        short = [
            place for place, found in enumerate(self.select.outcomes(rows)) if self.select.is_short(found)
        ]
        return read_rows(sources, index, Scored, short) if short else []

    async def process(self, rows: Sequence[Scored]) -> Sequence[Candidates | Failure]:
        """See `SampleStage`; the engine is started here."""
        if self._engine is None:
            super().setup()
        return await super().process(rows)

    async def _one(self, row: Scored) -> Candidates | Failure:
        made = await self._draw(row, self.draw)
        if isinstance(made, Failure):
            return made
        return replace(
            made,
            responses=row.responses + made.responses,
            token_ids=row.token_ids + made.token_ids,
            logprobs=np.concatenate([row.logprobs, made.logprobs]),
            finish_reasons=row.finish_reasons + made.finish_reasons,
            seed=row.seed,
        )

    def count_tokens(self, rows: Sequence[Candidates]) -> int:
        """Generated tokens, those of this draw."""
        new = self.sampling.num_candidates
        return sum(len(ids) for row in rows for ids in row.token_ids[-new:])

    def close(self) -> None:
        """Stop the engine if there is one."""
        if self._engine is not None:
            super().close()


@dataclass(frozen=True, kw_only=True)
class PartlyScored(Responses, Scores):
    """View: a grown group with the rewards of its first candidates."""


@dataclass(frozen=True, kw_only=True)
class PartlyScoredParts(Responses, ComponentScores):
    """View: the same with the parts of those rewards."""


class RescoreStage(ScoreStage):
    """Scores what the resample stage before it has drawn; the whole group where rewards are relative to it.

    Its `inputs` are the prompts, the rewards so far and the grown groups.
    """

    amends = "score"

    @property
    def reads(self) -> type[Row]:  # type: ignore[override]
        """With the parts where the reward has parts."""
        return PartlyScoredParts if self.writes is ComponentScores else PartlyScored

    def setup(self) -> None:
        """Nothing yet: the reward is loaded for the first grown group, if there is one."""
        self._reward = None  # type: ignore[assignment]

    async def process(self, rows: Sequence[PartlyScored]) -> Sequence[Scores | Failure]:
        """See `ScoreStage`; the reward is loaded here."""
        if self._reward is None:
            super().setup()
        return await super().process(rows)

    def _one(self, row: Any) -> Scores | Failure:
        if is_relative(self._reward):
            return super()._one(row)
        scored = len(row.rewards)
        new = replace(row, responses=row.responses[scored:], finish_reasons=row.finish_reasons[scored:])
        found = super()._one(new)
        if isinstance(found, Failure):
            return found
        grown: dict[str, Any] = {"rewards": np.concatenate([row.rewards, found.rewards])}
        if isinstance(found, ComponentScores):
            parts = zip(row.component_rewards, found.component_rewards, strict=True)
            grown["component_rewards"] = tuple(np.concatenate(part) for part in parts)
            grown["variances"] = np.concatenate([row.variances, found.variances])
        return replace(found, **grown)
