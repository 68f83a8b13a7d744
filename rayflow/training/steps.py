"""The optimizer steps of a job on one worker.

The loss of an optimizer step is (sum of the loss's items) / (number of its units in the GLOBAL batch), so
the gradient does not depend on the number of workers, on the micro-batches or on padding.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from rayflow.core.options import build
from rayflow.core.seeds import rng
from rayflow.errors import DataError, StageError
from rayflow.losses.base import Loss, LossInputs, implicit_rewards, loss_items
from rayflow.training.backend import Backend, learning_rate
from rayflow.training.groups import GroupFile, GroupLengths, TrainingGroup
from rayflow.training.layout import Layout
from rayflow.training.memory import add_up_with_memory
from rayflow.training.metrics import Metrics, Totals, averages
from rayflow.training.pack import Batch, pack
from rayflow.training.schedule import Batching, MicroStep, OptimizerStep, epoch_plan
from rayflow.training.split import Slopes

if TYPE_CHECKING:
    from rayflow.training.loop import TrainJob


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
        self.orders = job.orders
        self.per_epoch = self.batching.steps_per_epoch(len(self.members) // self.orders)
        self.total = options.num_epochs * self.per_epoch

    def plans(self, first: int) -> Iterator[tuple[int, OptimizerStep]]:
        """(1-based number, plan) of the optimizer steps after the first `first`."""
        for epoch in range(first // self.per_epoch, self.options.num_epochs):
            begin = epoch * self.per_epoch
            done = max(0, first - begin)
            plan = epoch_plan(self.batching, self.layout, self._members_of(epoch), epoch, done)
            yield from enumerate(plan, start=begin + done + 1)

    def _members_of(self, epoch: int) -> np.ndarray:
        """The groups of one epoch, [n] int64: one order of every item (see `TrainJob.orders`)."""
        items = np.arange(0, len(self.groups), self.orders)
        drawn = items + rng(self.batching.seed, "order", epoch).integers(0, self.orders, len(items))
        return drawn[self.units[drawn] > 0]

    def run(self, number: int, plan: OptimizerStep) -> Metrics:
        """One optimizer step; the metrics are the same on every worker."""
        started = time.monotonic()
        micro_steps = plan.micro_steps[self.backend.rank]
        units = int(self.units[list(plan.groups)].sum())
        parts, slopes = self._look(plan.looks[self.backend.rank], number)
        for i, micro_step in enumerate(micro_steps):
            totals = self._micro_step(micro_step, number, units, slopes, i == len(micro_steps) - 1)
            parts += [totals] if totals is not None else []
        rate = learning_rate(self.options, number - 1, self.total)
        norm = self.backend.step(rate)
        if not np.isfinite(norm):
            raise _not_finite("gradient norm", number, self.groups, plan.groups)
        totals, memory = add_up_with_memory(self.backend, Totals.add(parts))
        return averages(totals, time.monotonic() - started, self.objective) | {
            **memory,
            "learning_rate": rate,
            "grad_norm": norm,
            "step": number,
            "epoch": number / self.per_epoch,
        }

    def _look(self, looks: Sequence[MicroStep], number: int) -> tuple[list[Totals], dict[int, torch.Tensor]]:
        """What split groups add to the metrics, and the slopes of the loss at each (see `split`)."""
        logprobs: dict[int, torch.Tensor] = {}
        for look in looks:
            with torch.no_grad():
                values = self.backend.logprobs(self._pack(look))
            if look.weight:
                (index,) = look.groups
                size = len(self.groups[index].response_token_ids)
                whole = logprobs.setdefault(index, values.new_zeros(size))
                whole[list(look.part or range(size))] = values
        totals, slopes = [], {}
        for index, values in logprobs.items():
            group = self.groups[index]
            num_tokens = torch.tensor([len(ids) for ids in group.response_token_ids])
            inputs = loss_inputs([group], values.requires_grad_(), num_tokens)
            found = Slopes.at(self.loss, inputs)
            slopes[index] = found.of_responses
            totals.append(self._totals(inputs, found.total, (index,), number))
        return totals, slopes

    def _micro_step(
        self, micro_step: MicroStep, number: int, units: int, slopes: dict[int, torch.Tensor], last: bool
    ) -> Totals | None:
        """One pass with gradients; what it adds to the metrics, if `_look` has not."""
        batch = self._pack(micro_step)
        logprobs = self.backend.logprobs(batch)
        if not micro_step.weight:
            self.backend.backward(logprobs.sum() * 0, last)
            return None
        if micro_step.part is not None:
            (index,) = micro_step.groups
            own = slopes[index][list(micro_step.part)]
            self.backend.backward((own * logprobs).sum() / units, last)
            return None
        groups = [self.groups[i] for i in micro_step.groups]
        inputs = loss_inputs(groups, logprobs, batch.num_tokens)
        total = loss_items(self.loss, inputs).sum()
        totals = self._totals(inputs, total, micro_step.groups, number)
        self.backend.backward(total / units, last)
        return totals

    def _pack(self, micro_step: MicroStep) -> Batch:
        branches = micro_step.branches(lambda i: self.groups[i].branches)
        return pack(branches, shared=self.layout.shared, head_chunks=micro_step.head_chunks)

    def _totals(self, inputs: LossInputs, total: torch.Tensor, members: Sequence[int], number: int) -> Totals:
        """The sums of whole groups for the metrics.

        Raises:
            StageError: the loss is not finite.
        """
        if not torch.isfinite(total):
            raise _not_finite("loss", number, self.groups, members)
        implicit = implicit_rewards(self.loss, inputs, getattr(self.options.loss, "gamma", 1.0))
        return Totals.of(inputs, implicit, float(total.detach()), int(self.units[list(members)].sum()))


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
