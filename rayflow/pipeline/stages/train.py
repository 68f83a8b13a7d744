"""Train: groups in, a model folder out. Not by shard: every step needs all workers."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow.parquet as pq

from rayflow.config import PoolOptions, RunConfig
from rayflow.core.chat import response_token_ids
from rayflow.core.model_folder import load_tokenizer
from rayflow.core.options import KindOptions, build
from rayflow.core.registry import resolve
from rayflow.core.rows import Answered, Answers, Prompt, Scores
from rayflow.core.schema import to_table
from rayflow.engines.base import SamplingOptions
from rayflow.errors import DataError, StageError
from rayflow.losses.base import Needs, needs
from rayflow.pipeline.artifact import Artifact
from rayflow.pipeline.progress import StepProgress
from rayflow.pipeline.proxy import ProxyJudge
from rayflow.pipeline.stage import StageContext, read_rows
from rayflow.pipeline.stages.reference import AcceptedTokens
from rayflow.rewards.base import is_pairwise
from rayflow.training.options import Objective, TrainOptions

if TYPE_CHECKING:
    from rayflow.training.groups import TrainingGroup

EncodeTarget = Callable[[Prompt], np.ndarray]


@dataclass(frozen=True, kw_only=True)
class Group(AcceptedTokens):
    """View: what every loss trains on."""

    pairs: tuple[np.ndarray, ...]


@dataclass(frozen=True, kw_only=True)
class RewardedGroup(Group, Scores):
    """View: the same with the rewards."""


@dataclass(frozen=True, kw_only=True)
class ReferencedGroup(Group):
    """View: the same with the reference's log-probabilities."""

    ref_logprobs: np.ndarray


@dataclass(frozen=True, kw_only=True)
class WholeGroup(ReferencedGroup, RewardedGroup):
    """View: with both."""


_VIEWS = {
    (False, False): Group,
    (False, True): RewardedGroup,
    (True, False): ReferencedGroup,
    (True, True): WholeGroup,
}
"""By whether the loss reads the reference, and whether it reads rewards."""


_NOTHING_TO_TRAIN_ON = {
    "pairs": "There is no preference pair to train on: every group's accepted responses are tied or too few. "
    "Look at the rewards (do they differ within a prompt?), raise select.num_accepted, or set pair.ties.",
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
    """

    inputs: tuple[str, ...]
    reward: KindOptions
    sampling: SamplingOptions

    @classmethod
    def of(cls, config: RunConfig, inputs: tuple[str, ...]) -> Validation:
        """The validation that a configuration asks for."""
        assert config.reward is not None and config.train.choose is not None
        return cls(inputs, config.reward, config.sample.drawing(config.train.choose.num_samples))

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
        return ProxyJudge(path, engine, self.sampling, self.reward, seed)


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
    _tokenizer: Any = None

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
        return training_groups(sources, wanted, self._encode_target)

    def _encode_target(self, prompt: Prompt) -> np.ndarray:
        if self._tokenizer is None:
            self._tokenizer = load_tokenizer(self.model)
        return response_token_ids(self._tokenizer, prompt, prompt.target or "")

    def run(self, context: StageContext) -> dict[str, Any]:
        """Train, or go on from the last checkpoint.

        Returns:
            What the manifest keeps: groups, pairs, steps, and the last step's metrics.

        Raises:
            StageError: there is nothing for the loss to train on.
            DataError: the loss reads rewards or targets that the data does not have.
        """
        from rayflow.training.groups import GroupFile, write_groups
        from rayflow.training.loop import TrainJob, units_of

        context.artifact.begin(context.identity, num_shards=0)
        folder = context.artifact.folder
        groups = folder / "groups.arrow"
        loss = build("loss", self.options.loss)
        if not groups.exists():
            sources = [context.artifacts[name] for name in self.groups]
            write_groups(groups, self.training_groups(sources, needs(loss)))
        lengths = GroupFile(groups).lengths()
        units = units_of(loss, lengths)
        if not units.sum():
            raise StageError(_NOTHING_TO_TRAIN_ON[loss.unit])
        judge = None
        if self.validation is not None:
            rows = [context.artifacts[name] for name in self.validation.inputs]
            judge = self.validation.judge(rows, folder, self.seed, self.options.precision)
        job = TrainJob(self.options, self.model, groups, folder, self.seed, judge, self.objective)
        per_epoch = math.ceil(np.count_nonzero(units) / self.options.batch_size)
        with StepProgress(context.console, per_epoch * self.options.num_epochs) as progress:
            history = context.runner.train(job, self.pool, self.max_restarts, progress.update)
        return {
            "num_groups": len(lengths.prompt),
            "num_pairs": int(lengths.num_pairs.sum()),
            "num_steps": len(history),
            "last": history[-1] if history else {},
        }


def training_groups(
    sources: list[Artifact], wanted: Needs, encode_target: EncodeTarget
) -> Iterator[TrainingGroup]:
    """Training groups of all shards, one shard in memory at a time.

    Args:
        sources: artifacts that together hold the columns of `Group`, the prompts where targets are wanted,
            and the rewards and the reference where they are wanted.
        wanted: what the loss reads.
        encode_target: a prompt's target as token ids [R] int32.

    Raises:
        DataError: a group lacks the rewards or the target that the loss reads.
    """
    view = _VIEWS[wanted.reference, wanted.rewards]
    for index in range(sources[-1].num_shards):
        targets = {}
        if wanted.targets:
            targets = {row.prompt_id: row for row in read_rows(sources[:1], index, Prompt)}
        for row in read_rows(sources, index, view):
            group = _group(row)
            if wanted.rewards and np.isnan(group.rewards).any():
                raise DataError(
                    f"Prompt {row.prompt_id} has responses without a reward, which this loss reads. Use data "
                    "with scores, another loss, or source: sampled."
                )
            yield _with_target(group, targets[row.prompt_id], encode_target) if targets else group


def _group(row: Group) -> TrainingGroup:
    """What is known of a row's accepted responses; NaN where the loss does not ask."""
    from rayflow.training.groups import TrainingGroup

    unknown = np.full(len(row.accepted), np.nan, np.float32)
    position = {int(candidate): place for place, candidate in enumerate(row.accepted)}
    pairs = [[position[int(i)] for i in pair] for pair in row.pairs]
    return TrainingGroup(
        prompt_id=row.prompt_id,
        prompt_token_ids=row.prompt_token_ids,
        response_token_ids=tuple(row.token_ids[i] for i in row.accepted),
        rewards=row.rewards[row.accepted] if isinstance(row, RewardedGroup) else unknown,
        ref_logprobs=row.ref_logprobs if isinstance(row, ReferencedGroup) else unknown,
        pairs=np.array(pairs, dtype=np.int32).reshape(-1, 2),
    )


def _with_target(group: TrainingGroup, prompt: Prompt, encode: EncodeTarget) -> TrainingGroup:
    """The group with its target as one more response, in no pair, without reward and reference."""
    if not prompt.target:
        raise DataError(
            f"Prompt {prompt.prompt_id} has no target, which this loss reads. Add 'target' to the prompts, or "
            "let the loss use the best candidate."
        )
    return replace(
        group,
        response_token_ids=(*group.response_token_ids, encode(prompt)),
        rewards=np.append(group.rewards, np.nan),
        ref_logprobs=np.append(group.ref_logprobs, np.float32(np.nan)),
        target=len(group.response_token_ids),
    )
