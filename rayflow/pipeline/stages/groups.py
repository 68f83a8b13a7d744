"""Groups to train on, out of the columns of the stages before. Row in: accepted token ids, pairs. Row out: a group.

Only what the loss reads is there: rewards and the reference's log-probabilities are NaN otherwise, and responses
in no pair are left out.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from rayflow.core.given_rows import EncodedTarget
from rayflow.core.rows import Scores
from rayflow.errors import DataError
from rayflow.losses.base import Needs
from rayflow.pipeline.artifact import Artifact
from rayflow.pipeline.stage import read_rows
from rayflow.pipeline.stages.reference import PairedTokens, places_in_pairs

if TYPE_CHECKING:
    from rayflow.training.groups import TrainingGroup


@dataclass(frozen=True, kw_only=True)
class RewardedGroup(PairedTokens, Scores):
    """View: the same with the rewards."""


@dataclass(frozen=True, kw_only=True)
class ReferencedGroup(PairedTokens):
    """View: the same with the reference's log-probabilities."""

    ref_logprobs: np.ndarray


@dataclass(frozen=True, kw_only=True)
class WholeGroup(ReferencedGroup, RewardedGroup):
    """View: with both."""


_VIEWS = {
    (False, False): PairedTokens,
    (False, True): RewardedGroup,
    (True, False): ReferencedGroup,
    (True, True): WholeGroup,
}
"""By whether the loss reads the reference, and whether it reads rewards."""


def training_groups(sources: list[Artifact], wanted: Needs) -> Iterator[TrainingGroup]:
    """Training groups of all shards, one shard in memory at a time.

    Args:
        sources: artifacts that together hold the columns of `PairedTokens`, the targets (first), the rewards and
            the reference where they are wanted. A row that failed in any of them is left out.
        wanted: what the loss reads.

    Raises:
        DataError: a group lacks the rewards that the loss reads.
    """
    view = _VIEWS[wanted.reference, wanted.rewards]
    for index in range(sources[-1].num_shards):
        targets = {}
        if wanted.targets:
            rows = read_rows(sources[:1], index, EncodedTarget)
            targets = {row.prompt_id: row.target_token_ids for row in rows}
        for row in read_rows(sources, index, view):
            group = _group(row, places_in_pairs(row) if not wanted.unpaired else np.arange(len(row.accepted)))
            if wanted.rewards and np.isnan(group.rewards).any():
                raise DataError(
                    f"Prompt {row.prompt_id} has responses without a reward, which this loss reads. Use data "
                    "with scores, or set reward, which then scores them."
                )
            yield _with_target(group, targets[row.prompt_id]) if targets else group


def _group(row: PairedTokens, places: np.ndarray) -> TrainingGroup:
    """What is known of a row's accepted responses at `places`; NaN where the loss does not ask."""
    from rayflow.training.groups import TrainingGroup

    kept = row.accepted[places]
    unknown = np.full(len(kept), np.nan, np.float32)
    position = {int(candidate): place for place, candidate in enumerate(kept)}
    pairs = [[position[int(i)] for i in pair] for pair in row.pairs]
    return TrainingGroup(
        prompt_id=row.prompt_id,
        prompt_token_ids=row.prompt_token_ids,
        response_token_ids=tuple(row.token_ids[i] for i in kept),
        rewards=row.rewards[kept] if isinstance(row, RewardedGroup) else unknown,
        ref_logprobs=row.ref_logprobs[places] if isinstance(row, ReferencedGroup) else unknown,
        pairs=np.array(pairs, dtype=np.int32).reshape(-1, 2),
    )


def _with_target(group: TrainingGroup, target: np.ndarray) -> TrainingGroup:
    """The group with its target [R] int32 as one more response, in no pair, without reward and reference."""
    return replace(
        group,
        response_token_ids=(*group.response_token_ids, target),
        rewards=np.append(group.rewards, np.nan),
        ref_logprobs=np.append(group.ref_logprobs, np.float32(np.nan)),
        target=len(group.response_token_ids),
    )
