"""Train: groups in, a model folder out. Not by shard: every step needs all workers."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import pyarrow.parquet as pq

from rayflow.config import PoolOptions, RunConfig
from rayflow.core.branches import why_not_shared
from rayflow.core.evaluation_rows import Answered, Answers
from rayflow.core.model_folder import loadable
from rayflow.core.options import KindOptions, build
from rayflow.core.registry import resolve
from rayflow.core.schema import to_table
from rayflow.core.verbatim import verbatim
from rayflow.engines.base import SamplingOptions
from rayflow.errors import StageError
from rayflow.losses.base import Needs, needs
from rayflow.pipeline.artifact import Artifact
from rayflow.pipeline.progress import StepProgress
from rayflow.pipeline.proxy import ProxyJudge
from rayflow.pipeline.stage import StageContext, read_rows
from rayflow.pipeline.stages.groups import training_groups
from rayflow.pipeline.stages.pair import NO_PAIRS
from rayflow.rewards.base import is_pairwise
from rayflow.training.metrics import PEAK_RSS
from rayflow.training.options import Objective, TrainOptions

if TYPE_CHECKING:
    from rayflow.training.groups import GroupLengths, TrainingGroup

_NOTHING_TO_TRAIN_ON = {
    "pairs": NO_PAIRS,
    "responses": "There is no response to train on: look at the failures of the stages before.",
    "groups": "There is no group of responses to train on: look at the failures of the stages before.",
}


@dataclass(frozen=True)
class Validation:
    """How checkpoints are compared: the baseline's scored answers, and what answers and scores the policy's.

    Attributes:
        inputs: the stages that hold the validation prompts, the baseline's answers and, for a pointwise reward,
            their scores.
        reward: the one that scored them.
        sampling: how the policy answers.
        max_failed_fraction: of the validation prompts, so many may fail at a checkpoint that is chosen.
    """

    inputs: tuple[str, ...]
    reward: KindOptions
    sampling: SamplingOptions
    max_failed_fraction: float

    @classmethod
    def of(cls, config: RunConfig, inputs: tuple[str, ...]) -> Validation:
        """The validation that a configuration asks for."""
        assert config.reward is not None and config.train.choose is not None
        sampling = config.sample.drawing(config.train.choose.num_samples)
        return cls(inputs, config.reward, sampling, config.max_failed_fraction)

    @property
    def rankers(self) -> tuple[str, ...] | None:
        """A pairwise reward's models, which no stage before has read; None for a pointwise reward."""
        reward = build("reward", self.reward)
        return reward.models if is_pairwise(reward) else None

    def judge(self, sources: list[Artifact], folder: Path, seed: int, precision: str) -> ProxyJudge:
        """Gather the baseline's rows in one file, for all workers."""
        path = folder / "validation.parquet"
        view = Answered if self.rankers is None else Answers
        rows = [row for i in range(sources[-1].num_shards) for row in read_rows(sources, i, view)]
        pq.write_table(to_table(rows, view), path)
        engine = resolve("engine", "transformers").Config(dtype=precision)
        return ProxyJudge(path, engine, self.sampling, self.reward, seed, self.max_failed_fraction)


@dataclass
class TrainStage:
    """Gathers the groups, and hands them to the runner's trainer.

    Attributes:
        groups: the stages that together hold the columns of a group.
        validation: by what the checkpoint is chosen; None keeps the last one.
        objective: what the model puts out for a response.
    """

    name: str
    groups: tuple[str, ...]
    model: str
    options: TrainOptions
    seed: int
    pool: PoolOptions
    max_restarts: int
    validation: Validation | None = None
    objective: Objective = "policy"

    orders: ClassVar[int] = 1
    """Groups that are one item, shown in another order (see `TrainJob.orders`)."""

    @property
    def inputs(self) -> tuple[str, ...]:
        """What is learned from, and what checkpoints are compared by."""
        return (*self.groups, *(self.validation.inputs if self.validation else ()))

    @property
    def models(self) -> tuple[str, ...]:
        """The model that training starts from, and a ranker that chooses its checkpoint."""
        return (self.model, *((self.validation.rankers if self.validation else None) or ()))

    def identity(self) -> dict[str, Any]:
        """Every setting but those that only decide where and how fast."""
        identity = {"train": self.options.identity(), "seed": self.seed}
        if self.validation is not None:
            identity["validation"] = self.validation.sampling.identity() | self.validation.reward.identity()
        return identity

    def training_groups(self, sources: list[Artifact], wanted: Needs) -> Iterator[TrainingGroup]:
        """What is learned from, out of the artifacts of `groups` (see the function of this name)."""
        return training_groups(sources, wanted)

    def run(self, context: StageContext) -> dict[str, Any]:
        """Train, or go on from the last checkpoint.

        Returns:
            What the manifest keeps: groups, those with anything to train on, pairs, steps, the last step's metrics, the
            most memory that a training process held, and why prompts were not shared, if they were not.

        Raises:
            StageError: there is nothing for the loss to train on.
            DataError: the loss reads rewards that the data does not have.
        """
        from rayflow.training.groups import GroupFile
        from rayflow.training.loop import TrainJob
        from rayflow.training.steps import units_of

        context.artifact.begin(context.identity, num_shards=0)
        folder = context.artifact.folder
        groups = folder / "groups.arrow"
        loss = build("loss", self.options.loss)
        self._write_groups(groups, context, needs(loss))
        lengths = GroupFile(groups).lengths()
        units = units_of(loss, lengths)
        if not units.sum():
            raise StageError(_NOTHING_TO_TRAIN_ON[loss.unit])
        judge = None
        if self.validation is not None:
            rows = [context.artifacts[name] for name in self.validation.inputs]
            judge = self.validation.judge(rows, folder, self.seed, self.options.precision)
        if unshared := self.why_unshared(lengths):
            context.console.print(
                f"[yellow]Training reads the prompt anew for every response:[/] {unshared}."
            )
        job = TrainJob(
            self.options, self.model, groups, folder, self.seed, judge, self.objective, self.orders
        )
        per_epoch = math.ceil(np.count_nonzero(units) / self.orders / self.options.batch_size)
        with StepProgress(context.console, per_epoch * self.options.num_epochs) as progress:

            def on_step(metrics: dict[str, float]) -> None:
                progress.update(metrics)
                context.on_step(metrics)

            history = context.runner.train(job, self.pool, self.max_restarts, on_step)
        return {
            "num_groups": len(lengths.prompt) // self.orders,
            "num_trained": int(np.count_nonzero(units)) // self.orders,
            "num_pairs": int(lengths.num_pairs.sum()),
            "num_steps": len(history),
            "last": history[-1] if history else {},
            "peak_memory_bytes": max(
                (int(line[PEAK_RSS]) for line in history if PEAK_RSS in line), default=None
            ),
            "unshared": unshared,
        }

    def _write_groups(self, path: Path, context: StageContext, wanted: Needs) -> None:
        """The training data, unless it is there; from the same shards it is the same, so training can go on with it."""
        from rayflow.training.groups import are_whole, write_groups

        if are_whole(path):
            return
        if path.exists():
            context.console.print(
                f"[yellow]{verbatim(path)} is not what was written:[/] it is made anew.", soft_wrap=True
            )
        sources = [context.artifacts[name] for name in self.groups]
        write_groups(path, self.training_groups(sources, wanted))

    def why_unshared(self, lengths: GroupLengths) -> str | None:
        """Why the model cannot read a prompt once for all its responses; None if it can, or is not to."""
        from transformers import AutoConfig

        if self.options.share_prompt != "auto":
            return None
        config = AutoConfig.from_pretrained(loadable(self.model))
        return why_not_shared(config, int((lengths.prompt + lengths.response_max).max()))
