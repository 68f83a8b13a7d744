"""Pair: labelled preference pairs of the accepted. Row in: rewards, accepted. Row out: `PreferencePairs`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from rayflow.config import PoolOptions
from rayflow.core.options import KindOptions, build
from rayflow.core.rows import Failure, PreferencePairs, Row, Scores
from rayflow.core.seeds import rng
from rayflow.core.stats import logit
from rayflow.errors import DataError, RewardError
from rayflow.pairing.base import Prefer
from rayflow.pairing.labels import by_reward
from rayflow.pipeline.stage import SimpleStage, failure_of
from rayflow.pipeline.stages.score import Responses
from rayflow.rewards.base import PairwiseReward, preferences


@dataclass(frozen=True, kw_only=True)
class AcceptedScores(Scores):
    """View: what pairing by stored rewards reads."""

    accepted: np.ndarray


@dataclass(frozen=True, kw_only=True)
class AcceptedResponses(Responses, AcceptedScores):
    """View: what pairing with a pairwise reward reads."""


@dataclass
class PairStage(SimpleStage):
    """Applies the pairing rule to each prompt with the prompt's own generator.

    Attributes:
        ranker: a pairwise reward, which each worker then holds and asks for every label; None: labels follow
            from the stored rewards.
    """

    name: str
    inputs: tuple[str, ...]
    options: KindOptions
    seed: int
    pool: PoolOptions
    ranker: KindOptions | None = None

    writes = PreferencePairs

    @property
    def actor(self) -> bool:
        """Whether there is a model to keep."""
        return self.ranker is not None

    @property
    def reads(self) -> type[Row]:
        """A pairwise reward reads texts."""
        return AcceptedScores if self.ranker is None else AcceptedResponses

    @property
    def models(self) -> tuple[str, ...]:
        """The ranker's."""
        return () if self.ranker is None else build("reward", self.ranker).models

    def identity(self) -> dict[str, Any]:
        """The rule, its settings, the seed, and who labels."""
        labels = {} if self.ranker is None else {"labels": self.ranker.identity()}
        return {"pair": self.options.identity(), "seed": self.seed, **labels}

    def setup(self) -> None:
        """Build the rule; load the ranker."""
        self._rule = build("pairing", self.options)
        self._ranker: PairwiseReward | None = None
        if self.ranker is not None:
            self._ranker = build("reward", self.ranker)
            self._ranker.setup()

    async def process(self, rows: Sequence[Any]) -> Sequence[PreferencePairs | Failure]:
        """Pairs of each prompt; none at all (everything tied) leaves a group without pairs, not a failure."""
        return [self._one(row) for row in rows]

    def _one(self, row: Any) -> PreferencePairs | Failure:
        verdicts = None if self._ranker is None else Verdicts(self._ranker, row)
        try:
            pairs = self._pairs(row, by_reward(row.rewards) if verdicts is None else verdicts)
        except (RewardError, DataError) as error:
            return failure_of(row.prompt_id, "label failed", str(error))
        margins = None if verdicts is None else verdicts.margins(pairs)
        source = "reward" if margins is None else "ranker"
        if margins is None:
            margins = row.rewards[pairs[:, 0]] - row.rewards[pairs[:, 1]]
        return PreferencePairs(
            prompt_id=row.prompt_id, pairs=tuple(pairs), label_source=source, margins=margins
        )

    def _pairs(self, row: Any, prefer: Prefer) -> np.ndarray:
        return self._rule.pair(row.accepted, row.rewards, rng(self.seed, "pair", row.prompt_id), prefer)

    def close(self) -> None:
        """Drop the ranker."""
        self._ranker = None


class Verdicts:
    """A pairwise reward's judgements on one prompt's candidates, kept for the margins."""

    def __init__(self, ranker: PairwiseReward, row: AcceptedResponses) -> None:
        self._ranker = ranker
        self._row = row
        self._found: dict[tuple[int, int], float] = {}

    def __call__(self, pairs: np.ndarray) -> np.ndarray:
        """Probability that the first of each pair [p, 2] is better: [p] float64 (see `pairing.base.Prefer`).

        Raises:
            RewardError: the ranker failed.
        """
        found = preferences(self._ranker, self._row, self._row.responses, pairs)
        self._found |= zip(map(tuple, pairs.tolist()), logit(found).tolist(), strict=True)
        return found

    def margins(self, pairs: np.ndarray) -> np.ndarray | None:
        """Log-odds [p] float64 of the pairs as labelled; None if the rule asked nothing about one of them."""
        margins = []
        for chosen, rejected in pairs.tolist():
            if (chosen, rejected) in self._found:
                margins.append(self._found[chosen, rejected])
            elif (rejected, chosen) in self._found:
                margins.append(-self._found[rejected, chosen])
            else:
                return None
        return np.array(margins, dtype=np.float64)
