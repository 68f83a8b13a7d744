"""Train: preference groups in, a model folder out. Not by shard: every step needs all workers."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from rayflow.config import PoolOptions
from rayflow.core.rows import PreferencePairs, Scores
from rayflow.errors import StageError
from rayflow.pipeline.artifact import Artifact
from rayflow.pipeline.progress import StepProgress
from rayflow.pipeline.stage import StageContext, read_rows
from rayflow.pipeline.stages.reference import AcceptedTokens
from rayflow.training.options import TrainOptions

if TYPE_CHECKING:
    from rayflow.training.groups import TrainingGroup


@dataclass(frozen=True, kw_only=True)
class ReferencedGroup(AcceptedTokens, Scores, PreferencePairs):
    """View: everything a training group is made from."""

    ref_logprobs: np.ndarray


@dataclass
class TrainStage:
    """Gathers the groups that have pairs, and hands them to the runner's trainer."""

    name: str
    inputs: tuple[str, ...]
    model: str
    options: TrainOptions
    seed: int
    pool: PoolOptions
    max_restarts: int

    @property
    def models(self) -> tuple[str, ...]:
        """The policy that training starts from."""
        return (self.model,)

    def identity(self) -> dict[str, Any]:
        """Every setting but those that only decide where and how fast."""
        return {"train": self.options.identity(), "seed": self.seed}

    def run(self, context: StageContext) -> dict[str, Any]:
        """Train, or go on from the last checkpoint.

        Returns:
            What the manifest keeps: groups, pairs, steps, and the last step's metrics.

        Raises:
            StageError: no pair to train on.
        """
        from rayflow.training.groups import GroupFile, write_groups
        from rayflow.training.loop import TrainJob

        context.artifact.begin(context.identity, num_shards=0)
        folder = context.artifact.folder
        groups = folder / "groups.arrow"
        if not groups.exists():
            write_groups(groups, training_groups([context.artifacts[name] for name in self.inputs]))
        lengths = GroupFile(groups).lengths()
        if not lengths.num_pairs.sum():
            raise StageError(
                "There is no preference pair to train on: every group's accepted responses are tied or too "
                "few. Look at the rewards (do they differ within a prompt?), raise select.num_accepted, or "
                "set pair.ties."
            )
        job = TrainJob(self.options, self.model, groups, folder, self.seed)
        per_epoch = math.ceil(np.count_nonzero(lengths.num_pairs) / self.options.batch_size)
        with StepProgress(context.console, per_epoch * self.options.num_epochs) as progress:
            history = context.runner.train(job, self.pool, self.max_restarts, progress.update)
        return {
            "num_groups": len(lengths.prompt),
            "num_pairs": int(lengths.num_pairs.sum()),
            "num_steps": len(history),
            "last": history[-1] if history else {},
        }


def training_groups(sources: list[Artifact]) -> Iterator[TrainingGroup]:
    """Training groups of all shards, one shard in memory at a time; groups without a pair are left out."""
    from rayflow.training.groups import TrainingGroup

    for index in range(sources[-1].num_shards):
        for row in read_rows(sources, index, ReferencedGroup):
            if not row.pairs:
                continue
            position = {int(candidate): place for place, candidate in enumerate(row.accepted)}
            yield TrainingGroup(
                prompt_id=row.prompt_id,
                prompt_token_ids=row.prompt_token_ids,
                response_token_ids=tuple(row.token_ids[i] for i in row.accepted),
                rewards=row.rewards[row.accepted],
                ref_logprobs=row.ref_logprobs,
                pairs=np.array([[position[int(i)] for i in pair] for pair in row.pairs], dtype=np.int32),
            )
