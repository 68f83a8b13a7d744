"""Measure: everything that the stages of an evaluation have found becomes its report's numbers."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from rayflow.config.evaluate import IntervalOptions
from rayflow.config.side_by_side import SideBySideOptions
from rayflow.core.evaluation_rows import Answered, Answers, ComparedVerdict, Diversity, SideBySideVerdicts
from rayflow.core.rows import Row, cut_short
from rayflow.evaluation.divergence import Divergence, PolicyLogprobs, divergence
from rayflow.evaluation.measures import (
    DiversityMeasure,
    Measures,
    RewardMeasure,
    diversity_measure,
    reward_measure,
)
from rayflow.evaluation.side_by_side import SideBySide, side_by_side
from rayflow.evaluation.win_rate import WinRate
from rayflow.pipeline.artifact import Artifact
from rayflow.pipeline.stage import StageContext, read_rows
from rayflow.pipeline.stages.evaluate import EvaluateStage
from rayflow.pipeline.stages.side_by_side import SideBySideStage

Artifacts = dict[str, Artifact]


@dataclass(frozen=True, kw_only=True)
class PlainSamples(Row):
    """View: the policy's own samples with one model's log-probabilities."""

    token_ids: tuple[np.ndarray, ...]
    finish_reasons: tuple[str, ...]
    exact_logprobs: np.ndarray


@dataclass(frozen=True)
class Divergent:
    """The stages that the divergence is computed from: the samples, and each model's pass over them."""

    samples: str
    policy: str
    sft: str


@dataclass
class MeasureStage:
    """Reads what is stored; quick, so that another interval or reading of the threshold costs nothing.

    Attributes:
        verdicts: for each reward the stage of its verdicts.
        diversity: for each side that has several responses the stage that measured them.
        divergent: where the divergence comes from; None leaves it out.
        judged: the stage of the judge's verdicts.
        side_by_side: how they are taken.
    """

    name: str
    verdicts: dict[str, EvaluateStage]
    diversity: dict[str, str]
    divergent: Divergent | None
    judged: str | None
    side_by_side: SideBySideOptions | None
    interval: IntervalOptions
    seed: int
    models: tuple[str, ...] = ()

    @property
    def inputs(self) -> tuple[str, ...]:
        """Every stage that is read."""
        stages = [name for verdict in self.verdicts.values() for name in (*verdict.inputs, verdict.name)]
        stages += self.diversity.values()
        stages += (
            [self.divergent.samples, self.divergent.policy, self.divergent.sft] if self.divergent else []
        )
        stages += [self.judged] if self.judged else []
        return tuple(dict.fromkeys(stages))

    def identity(self) -> dict[str, Any]:
        """The intervals' settings, and what a judge's verdicts are taken for."""
        taken = self.side_by_side
        judged = {"threshold": taken.threshold, "reading": taken.reading} if taken else None
        return {"interval": self.interval.identity(), "seed": self.seed, "side_by_side": judged}

    def run(self, context: StageContext) -> dict[str, Any]:
        """The numbers, for the manifest.

        Raises:
            DataError: nothing was left to measure.
        """
        context.artifact.begin(context.identity, num_shards=0)
        return {"measures": asdict(self.measures(context.artifacts))}

    def measures(self, artifacts: Artifacts) -> Measures:
        """All of them."""
        return Measures(
            rewards={name: self._reward(verdict, artifacts) for name, verdict in self.verdicts.items()},
            diversity={side: self._diversity(artifacts[name]) for side, name in self.diversity.items()},
            kl=self._divergence(artifacts) if self.divergent else None,
            side_by_side=self._judged(artifacts) if self.judged else None,
        )

    @property
    def _settings(self) -> dict[str, Any]:
        interval = self.interval
        return {
            "seed": self.seed,
            "num_resamples": interval.num_resamples,
            "confidence": interval.confidence,
        }

    def _reward(self, verdict: EvaluateStage, artifacts: Artifacts) -> RewardMeasure:
        won = WinRate(**artifacts[verdict.name].manifest().extra["win_rate"])
        answered = answered_rows(verdict, artifacts)
        preferred = None
        if verdict.compared is not None:
            compared = _rows([artifacts[verdict.compared]], ComparedVerdict)
            preferred = {row.prompt_id: row.preferred for row in compared}
        return reward_measure(answered, won, preferred=preferred, **self._settings)

    def _diversity(self, artifact: Artifact) -> DiversityMeasure:
        return diversity_measure(list(_rows([artifact], Diversity)), **self._settings)

    def _divergence(self, artifacts: Artifacts) -> Divergence:
        assert self.divergent is not None
        samples = artifacts[self.divergent.samples]
        both = [
            {row.prompt_id: row for row in _rows([samples, artifacts[name]], PlainSamples)}
            for name in (self.divergent.policy, self.divergent.sft)
        ]
        rows = [
            PolicyLogprobs(
                policy=row.exact_logprobs,
                sft=both[1][name].exact_logprobs,
                num_tokens=np.array([len(ids) for ids in row.token_ids]),
                cut=cut_short(row.finish_reasons),
            )
            for name, row in both[0].items()
            if name in both[1]
        ]
        return divergence(rows, **self._settings)

    def _judged(self, artifacts: Artifacts) -> SideBySide:
        assert self.judged is not None and self.side_by_side is not None
        rows = list(_rows([artifacts[self.judged]], SideBySideVerdicts))
        taken = self.side_by_side
        return side_by_side(rows, threshold=taken.threshold, reading=taken.reading, **self._settings)


def answered_rows(verdict: EvaluateStage, artifacts: Artifacts) -> list[tuple[Answered, Answered]]:
    """(policy, baseline) of all prompts that have a verdict."""
    shards = range(artifacts[verdict.name].num_shards)
    return [pair for index in shards for pair in verdict.answered(artifacts, index)]


def judged_rows(judge: SideBySideStage, artifacts: Artifacts) -> list[tuple[Answers, Answers]]:
    """(policy, baseline) of all prompts that a judge has looked at."""
    seen = {row.prompt_id for row in _rows([artifacts[judge.name]], SideBySideVerdicts)}
    sources = [artifacts[name] for name in judge.inputs]
    pairs = (pair for index in range(artifacts[judge.name].num_shards) for pair in judge.read(sources, index))
    return [pair for pair in pairs if pair[0].prompt_id in seen]


def _rows(sources: Sequence[Artifact], view: type[Any]) -> Iterator[Any]:
    for index in range(sources[-1].num_shards):
        yield from read_rows(sources, index, view)
