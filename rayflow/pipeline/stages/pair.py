"""Pair: labelled preference pairs of the accepted. Row in: rewards, accepted. Row out: `PreferencePairs`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from rayflow.config import PoolOptions
from rayflow.core.options import KindOptions, build
from rayflow.core.rows import Failure, PreferencePairs, Scores
from rayflow.core.seeds import rng
from rayflow.pipeline.stage import SimpleStage


@dataclass(frozen=True, kw_only=True)
class AcceptedScores(Scores):
    """View: what pairing reads."""

    accepted: np.ndarray


@dataclass
class PairStage(SimpleStage):
    """Applies the pairing rule to each prompt with the prompt's own generator."""

    name: str
    inputs: tuple[str, ...]
    options: KindOptions
    seed: int
    pool: PoolOptions

    reads = AcceptedScores
    writes = PreferencePairs

    def identity(self) -> dict[str, Any]:
        """The rule, its settings and the seed."""
        return {"pair": self.options.identity(), "seed": self.seed}

    async def process(self, rows: Sequence[AcceptedScores]) -> Sequence[PreferencePairs | Failure]:
        """Pairs of each prompt; none at all (everything tied) leaves a group without pairs, not a failure."""
        rule = build("pairing", self.options)
        return [self._one(rule, row) for row in rows]

    def _one(self, rule: Any, row: AcceptedScores) -> PreferencePairs:
        pairs = rule.pair(row.accepted, row.rewards, rng(self.seed, "pair", row.prompt_id))
        margins = row.rewards[pairs[:, 0]] - row.rewards[pairs[:, 1]]
        return PreferencePairs(prompt_id=row.prompt_id, pairs=tuple(pairs), margins=margins)
