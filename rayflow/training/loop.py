"""The training loop. Row in: training groups. Out: a model folder and one metrics line per optimizer step.

The loss of an optimizer step is (sum of the loss's items) / (number of its units in the GLOBAL batch), so
the gradient does not depend on the number of workers, on the micro-batches or on padding.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from rayflow.core.options import build
from rayflow.errors import DataError, StageError
from rayflow.losses.base import Loss, LossInputs, implicit_rewards
from rayflow.training.backend import Backend, learning_rate
from rayflow.training.checkpoints import CheckpointStore
from rayflow.training.choice import Chooser, Judge
from rayflow.training.groups import GroupFile, GroupLengths, TrainingGroup
from rayflow.training.layout import Layout
from rayflow.training.metrics import Metrics, MetricsLog, Totals, averages
from rayflow.training.options import Objective, TrainOptions
from rayflow.training.pack import pack
from rayflow.training.schedule import Batching, MicroStep, OptimizerStep, epoch_plan


@dataclass(frozen=True)
class TrainJob:
    """What is trained on what.

    Attributes:
        options: the stage's settings.
        model_path: local folder or hub id of the model that training starts from.
        groups_path: file of `groups.write_groups`.
        output_dir: gets `metrics.jsonl` and `model/`; on a cluster, a folder that all machines see.
        seed: of the shuffle, and of a reward model's new head.
        judge: compares a model with the baseline, where `options.choose` asks for it.
        objective: what the model puts out for a response.
    """

    options: TrainOptions
    model_path: str
    groups_path: Path
    output_dir: Path
    seed: int
    judge: Judge | None = None
    objective: Objective = "policy"

    @property
    def metrics_path(self) -> Path:
        """One JSON line per optimizer step."""
        return Path(self.output_dir) / "metrics.jsonl"

    @property
    def model_dir(self) -> Path:
        """The trained model folder."""
        return Path(self.output_dir) / "model"


def train(
    job: TrainJob, backend: Backend, store: CheckpointStore, on_step: Callable[[Metrics], None] | None = None
) -> None:
    """Train from the newest checkpoint of `store`, or from the start, to the end; save the model.

    Args:
        job: what is trained on what.
        backend: not set up yet.
        store: where checkpoints are kept and found.
        on_step: called on rank 0 with each step's metrics. `step` is 1-based; see `metrics.averages`.

    Raises:
        DataError: there is nothing to train on, or a group exceeds the model's context.
        ModelError: the model cannot be loaded.
        StageError: the loss is not finite; it names the step and the prompts.
    """
    groups = GroupFile(job.groups_path)
    backend.setup(job)
    steps = Steps(job, groups, backend)
    with store.newest() as folder:
        done = backend.load_state(folder) if folder is not None else 0
    log = MetricsLog(job.metrics_path, done) if backend.rank == 0 else None
    chooser = Chooser(job, backend, done) if job.options.choose else None
    every = job.options.checkpoint_every_steps
    for number, plan in steps.plans(first=done):
        if chooser is not None and chooser.finished:
            break
        metrics = steps.run(number, plan)
        if chooser is not None:
            metrics |= chooser.after(number, steps.total)
        if log is not None:
            log.append(metrics)
            if on_step is not None:
                on_step(metrics)
        if every and number % every == 0 and number < steps.total:
            store.save(number, lambda path, number=number: backend.save_state(path, number))
    if chooser is not None:
        chooser.keep_best()
    else:
        backend.save_model(job.model_dir, job.model_path)


class Steps:
    """The optimizer steps of a job on one worker.

    Args:
        job: what is trained on what.
        groups: the data.
        backend: set up.

    Raises:
        DataError: no group gives the loss anything to work on.
    """

    def __init__(self, job: TrainJob, groups: GroupFile, backend: Backend) -> None:
        options = job.options
        self.options, self.groups, self.backend, self.objective = options, groups, backend, job.objective
        self.loss: Loss = build("loss", options.loss)
        lengths = groups.lengths()
        self.units = units_of(self.loss, lengths)
        # A group without a pair has no gradient under a loss over pairs: it is left out of every batch.
        self.members = np.flatnonzero(self.units)
        if not len(self.members):
            raise DataError(
                f"None of the {len(groups)} groups has any {self.loss.unit}, so loss '{options.loss.kind}' has "
                "nothing to train on. Check how many candidates were accepted and paired."
            )
        self.layout = Layout.choose(backend.config, lengths, options.share_prompt)
        self.batching = Batching(options.batch_size, backend.world_size, options.micro_batch_tokens, job.seed)
        self.per_epoch = self.batching.steps_per_epoch(len(self.members))
        self.total = options.num_epochs * self.per_epoch

    def plans(self, first: int) -> Iterator[tuple[int, OptimizerStep]]:
        """(1-based number, plan) of the optimizer steps after the first `first`."""
        for epoch in range(first // self.per_epoch, self.options.num_epochs):
            plan = epoch_plan(self.batching, self.layout, self.members, epoch)
            for offset, step in enumerate(plan):
                number = epoch * self.per_epoch + offset + 1
                if number > first:
                    yield number, step

    def run(self, number: int, plan: OptimizerStep) -> Metrics:
        """One optimizer step; the metrics are the same on every worker."""
        started = time.monotonic()
        micro_steps = plan.micro_steps[self.backend.rank]
        units = int(self.units[list(plan.groups)].sum())
        parts = [
            totals
            for i, micro_step in enumerate(micro_steps)
            if (totals := self._micro_step(micro_step, number, units, i == len(micro_steps) - 1)) is not None
        ]
        rate = learning_rate(self.options, number - 1, self.total)
        norm = self.backend.step(rate)
        if not np.isfinite(norm):
            raise _not_finite("gradient norm", number, self.groups, plan.groups)
        totals = self.backend.add_up(Totals.add(parts))
        return averages(totals, time.monotonic() - started, self.objective) | {
            "learning_rate": rate,
            "grad_norm": norm,
            "step": number,
            "epoch": number / self.per_epoch,
        }

    def _micro_step(self, micro_step: MicroStep, number: int, units: int, last: bool) -> Totals | None:
        groups = [self.groups[i] for i in micro_step.groups]
        batch = pack([(g.prompt_token_ids, g.response_token_ids) for g in groups], shared=self.layout.shared)
        logprobs = self.backend.logprobs(batch)
        inputs = loss_inputs(groups, logprobs, batch.num_tokens)
        total = self.loss(inputs).sum()
        if not torch.isfinite(total):
            raise _not_finite("loss", number, self.groups, micro_step.groups)
        self.backend.backward(total * (micro_step.weight / units), last)
        if not micro_step.weight:
            return None
        implicit = implicit_rewards(self.loss, inputs, getattr(self.options.loss, "gamma", 1.0))
        own_units = int(self.units[list(micro_step.groups)].sum())
        return Totals.of(inputs, implicit, float(total.detach()), own_units)


def _not_finite(what: str, number: int, groups: GroupFile, members: Sequence[int]) -> StageError:
    names = ", ".join(groups[i].prompt_id for i in members)
    return StageError(
        f"The {what} of optimizer step {number} is not finite (prompts {names}). "
        "Try a lower learning_rate, or precision: float32."
    )


def units_of(loss: Loss, lengths: GroupLengths) -> np.ndarray:
    """Loss units of every group: [g] int64."""
    by_unit: dict[str, Any] = {
        "pairs": lengths.num_pairs,
        "responses": lengths.num_responses,
        "groups": np.minimum(lengths.num_responses, 1),
    }
    return by_unit[loss.unit]


def loss_inputs(groups: list[TrainingGroup], logprobs: torch.Tensor, num_tokens: torch.Tensor) -> LossInputs:
    """What a loss sees of a batch of groups, on the device of `logprobs` [m]."""
    sizes = np.array([len(g.response_token_ids) for g in groups])
    offsets = np.cumsum(sizes) - sizes
    pairs = [g.pairs + offset for g, offset in zip(groups, offsets, strict=True)]
    arrays = {
        "ref_logprobs": np.concatenate([g.ref_logprobs for g in groups]).astype(np.float32),
        "rewards": np.concatenate([g.rewards for g in groups]).astype(np.float32),
        "groups": np.repeat(np.arange(len(groups)), sizes),
        "pairs": np.concatenate(pairs).astype(np.int64),
    }
    targets = [g.target + offset if g.target >= 0 else -1 for g, offset in zip(groups, offsets, strict=True)]
    arrays["targets"] = np.array(targets, dtype=np.int64)
    tensors = {name: torch.from_numpy(array).to(logprobs.device) for name, array in arrays.items()}
    return LossInputs(logprobs=logprobs, num_tokens=num_tokens.to(logprobs.device), **tensors)
