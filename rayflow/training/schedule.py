"""Which worker computes which groups in which forward pass: a pure function, the same on every worker.

Nobody sends the plan: each worker derives it from the seed and the groups' lengths. Every worker gets the
same number of micro-steps for each optimizer step, because a collective that one worker does not enter hangs
all others; where there is nothing left to do, it repeats a group with weight 0.
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from rayflow.core.seeds import rng
from rayflow.training.layout import Layout


@dataclass(frozen=True)
class MicroStep:
    """One forward and backward pass of one worker.

    Attributes:
        groups: indices into the group file.
        weight: 1, or 0 for a repeated group that only keeps the worker in step with the others.
    """

    groups: tuple[int, ...]
    weight: int = 1


@dataclass(frozen=True)
class OptimizerStep:
    """One global batch.

    Attributes:
        epoch: 0-based.
        groups: the batch, in shuffled order.
        micro_steps: for each worker its micro-steps; all of the same number.
    """

    epoch: int
    groups: tuple[int, ...]
    micro_steps: tuple[tuple[MicroStep, ...], ...]


@dataclass(frozen=True)
class Batching:
    """How an epoch is cut.

    Attributes:
        batch_size: groups of one optimizer step, over all workers; the last step of an epoch may have fewer.
        world_size: workers.
        micro_batch_tokens: padded tokens of one forward pass.
        seed: of the shuffle.
    """

    batch_size: int
    world_size: int
    micro_batch_tokens: int
    seed: int

    def steps_per_epoch(self, num_groups: int) -> int:
        """Optimizer steps of one epoch: nothing is dropped, so the remainder is a step of its own."""
        return math.ceil(num_groups / self.batch_size)


def epoch_plan(batching: Batching, layout: Layout, members: Sequence[int], epoch: int) -> list[OptimizerStep]:
    """The optimizer steps of one epoch; every group of `members` occurs exactly once with weight 1.

    The batches (which groups share an optimizer step) depend on the seed, the epoch and `batch_size` only,
    so another number of workers trains on the same batches.

    Args:
        batching: sizes and seed.
        layout: rows and widths of all groups in the file.
        members: the groups to train on.
        epoch: 0-based; each epoch has its own shuffle.
    """
    order = np.asarray(members, dtype=np.int64)[rng(batching.seed, "train", epoch).permutation(len(members))]
    batches = [order[i : i + batching.batch_size].tolist() for i in range(0, len(order), batching.batch_size)]
    return [OptimizerStep(epoch, tuple(batch), _assign(batch, batching, layout)) for batch in batches]


def _assign(batch: list[int], batching: Batching, layout: Layout) -> tuple[tuple[MicroStep, ...], ...]:
    """Micro-steps of each worker for one global batch."""
    shares = _balance(batch, layout, batching.world_size)
    plans = [layout.micro_batches(share, batching.micro_batch_tokens) for share in shares]
    count = max(len(plan) for plan in plans)
    idle = MicroStep((min(batch, key=lambda i: (int(layout.rows[i] * layout.width[i]), i)),), weight=0)
    result = []
    for plan in plans:
        _split_until(plan, count)
        steps = [MicroStep(tuple(groups)) for groups in plan]
        result.append(tuple(steps + [idle] * (count - len(steps))))
    return tuple(result)


def _balance(batch: list[int], layout: Layout, world_size: int) -> list[list[int]]:
    """Longest group first, each to the worker with the fewest tokens so far (ties: the lowest rank)."""
    tokens = layout.rows * layout.width
    shares: list[list[int]] = [[] for _ in range(world_size)]
    loads = [(0, rank) for rank in range(world_size)]
    for index in sorted(batch, key=lambda i: (-int(tokens[i]), i)):
        load, rank = heapq.heappop(loads)
        shares[rank].append(index)
        heapq.heappush(loads, (load + int(tokens[index]), rank))
    return shares


def _split_until(plan: list[list[int]], count: int) -> None:
    """Halve the fullest micro-batches until there are `count`, as real work is better than idle passes."""
    while len(plan) < count and (fullest := max(plan, key=len, default=[])) and len(fullest) > 1:
        middle = len(fullest) // 2
        plan.append(fullest[middle:])
        del fullest[middle:]
