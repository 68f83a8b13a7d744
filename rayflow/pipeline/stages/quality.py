"""Quality: the trained reward model's verdicts on the held-out pairs become its report's numbers."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from rayflow.config.reward import QualityOptions
from rayflow.core.rows import Prompt
from rayflow.evaluation.reward_quality import JudgedPairs, reward_quality
from rayflow.pipeline.artifact import Artifact
from rayflow.pipeline.stage import StageContext, read_rows
from rayflow.pipeline.stages.preferences import name_of


@dataclass(frozen=True, kw_only=True)
class JudgedRow(Prompt):
    """View: a row's pairs with what the model says of them."""

    pairs: tuple[np.ndarray, ...]
    margins: np.ndarray
    scores: np.ndarray
    num_tokens: np.ndarray


@dataclass
class QualityStage:
    """Measures accuracy, calibration and what length has to do with it."""

    name: str
    inputs: tuple[str, ...]
    options: QualityOptions
    seed: int
    models: tuple[str, ...] = ()

    def identity(self) -> dict[str, Any]:
        """The interval's and the bins' settings."""
        return {"evaluate": self.options.identity(), "seed": self.seed}

    def run(self, context: StageContext) -> dict[str, Any]:
        """The numbers, for the manifest.

        Raises:
            DataError: no pair was judged.
        """
        context.artifact.begin(context.identity, num_shards=0)
        pairs = judged_pairs([context.artifacts[name] for name in self.inputs])
        settings = {name: getattr(self.options, name) for name in QualityOptions.model_fields}
        return {"quality": asdict(reward_quality(pairs, seed=self.seed, **settings))}


def judged_pairs(sources: list[Artifact]) -> JudgedPairs:
    """All pairs of all shards.

    Args:
        sources: artifacts that together hold the columns of `JudgedRow`, the judge's last.
    """
    rows = list(_rows(sources))
    names: dict[str, int] = {}
    prompts = [names.setdefault(name_of(row), len(names)) for row in rows for _ in row.pairs]

    def of(column: str, side: int) -> np.ndarray:
        """The column's value of each pair's chosen (0) or rejected (1) response."""
        each = ((getattr(row, column), pair) for row in rows for pair in row.pairs)
        return np.array([values[pair[side]] for values, pair in each if len(values)])

    return JudgedPairs(
        prompts=np.array(prompts, dtype=np.int64),
        margins=np.concatenate([np.empty(0), *(row.margins for row in rows)]),
        chosen_tokens=of("num_tokens", 0),
        rejected_tokens=of("num_tokens", 1),
        chosen_scores=of("scores", 0),
        rejected_scores=of("scores", 1),
        scores=np.concatenate([np.empty(0), *(row.scores for row in rows)]),
        score_tokens=np.concatenate([np.empty(0), *(row.num_tokens for row in rows if len(row.scores))]),
    )


def _rows(sources: list[Artifact]) -> Iterator[JudgedRow]:
    for index in range(sources[-1].num_shards):
        yield from read_rows(sources, index, JudgedRow)
