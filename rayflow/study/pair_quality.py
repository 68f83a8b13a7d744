"""What the pairs of a row are worth: whether the gold reward, which never labelled them, agrees.

In: a row's pairs, and the gold rewards of the candidates they point at. Out: a `PairQuality`. A method can fail
because its loss does, or because of what it is given to learn from; this tells the second apart.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from rayflow.core.rows import PreferencePairs, Scores
from rayflow.pipeline.artifact import Artifact
from rayflow.pipeline.stage import read_rows


@dataclass(frozen=True, kw_only=True)
class JudgedPairs(PreferencePairs, Scores):
    """View: a prompt's pairs, with the gold rewards of its candidates."""


@dataclass(frozen=True, kw_only=True)
class PairQuality:
    """All pairs of one row, of all its seeds.

    Attributes:
        count: pairs, the mean over seeds.
        agreement: share of the pairs whose chosen response has the higher gold reward, among those whose gold
            rewards differ; None if none do.
        difference: by how much the chosen response's gold reward is higher, the mean over pairs.
        rejected: mean gold reward of the rejected responses.
    """

    count: float
    agreement: float | None
    difference: float
    rejected: float


def judge_pairs(pairs: Iterable[Artifact], gold: Artifact) -> PairQuality | None:
    """The pairs of every seed of a row by the gold reward; None without any.

    Args:
        pairs: the pair stage of each seed.
        gold: the score stage by the gold reward, of the candidates that all of them point at.
    """
    runs = [list(_rewards(each, gold)) for each in pairs]
    found = [rewards for run in runs for rewards in run]
    if not found:
        return None
    chosen, rejected = np.concatenate(found).T
    unequal = chosen != rejected
    return PairQuality(
        count=sum(len(rewards) for rewards in found) / len(runs),
        agreement=float((chosen > rejected)[unequal].mean()) if unequal.any() else None,
        difference=float((chosen - rejected).mean()),
        rejected=float(rejected.mean()),
    )


def _rewards(pairs: Artifact, gold: Artifact) -> Iterable[np.ndarray]:
    """[p, 2] gold rewards (chosen, rejected) of each prompt's pairs."""
    for index in range(pairs.num_shards):
        for row in read_rows([gold, pairs], index, JudgedPairs):
            if row.pairs:
                yield row.rewards[np.stack(row.pairs)]
