"""Which worker computes which groups in which forward pass: a pure function, the same on every worker.

Nobody sends the plan: each worker derives it from the seed and the groups' lengths. Every worker gets the
same number of groups and of micro-steps for each optimizer step, because a collective that one worker does not
enter hangs all others; where there is nothing left to do, it repeats a group with weight 0.
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import count, zip_longest

import numpy as np

from rayflow.core.seeds import rng
from rayflow.training.layout import Layout, MicroBatch

_Share = tuple[int, list[int]]  # tokens, and the groups that have them


@dataclass(frozen=True)
class MicroStep(MicroBatch):
    """One pass of one worker over groups of the group file.

    Attributes:
        weight: 1, or 0 for a repeated group that only keeps the worker in step with the others.
        head_chunks: in how many pieces the logits are computed: as many as the worker with the most tokens needs,
            since under ZeRO-3 all workers fetch the head's weights together for each.
    """

    weight: int = 1
    head_chunks: int = 1


@dataclass(frozen=True)
class OptimizerStep:
    """One global batch.

    Attributes:
        epoch: 0-based.
        groups: the batch, in shuffled order.
        micro_steps: for each worker its micro-steps; all of the same number.
        looks: for each worker the passes without gradients that come first, all of the same number: a loss
            over a whole group needs the numbers of all parts of a group that was split.
    """

    epoch: int
    groups: tuple[int, ...]
    micro_steps: tuple[tuple[MicroStep, ...], ...]
    looks: tuple[tuple[MicroStep, ...], ...]


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


def epoch_plan(
    batching: Batching, layout: Layout, members: Sequence[int], epoch: int, done: int = 0
) -> Iterator[OptimizerStep]:
    """The optimizer steps of one epoch, made one by one; every group of `members` occurs once with weight 1.

    The batches (which groups share an optimizer step) depend on the seed, the epoch and `batch_size` only,
    so another number of workers trains on the same batches.

    Args:
        batching: sizes and seed.
        layout: rows and widths of all groups in the file.
        members: the groups to train on.
        epoch: 0-based; each epoch has its own shuffle.
        done: how many of its steps to pass over.
    """
    order = np.asarray(members, dtype=np.int64)[rng(batching.seed, "train", epoch).permutation(len(members))]
    size = batching.batch_size
    for begin in range(done * size, len(order), size):
        yield _optimizer_step(epoch, order[begin : begin + size].tolist(), batching, layout)


def _optimizer_step(epoch: int, batch: list[int], batching: Batching, layout: Layout) -> OptimizerStep:
    """Micro-steps of each worker for one global batch."""
    budget = batching.micro_batch_tokens
    tokens = {i: sum(map(layout.padded_tokens, layout.micro_batches([i], budget))) for i in batch}
    plans = [layout.micro_batches(share, budget) for share in balanced(tokens, batching.world_size)]
    longest = max(map(len, plans))
    for plan in plans:
        _split_until(plan, longest)
    looks = [[m for m in plan if m.part is not None] for plan in plans]
    shortest = min(batch, key=lambda i: (tokens[i], i))
    idle = min(layout.micro_batches([shortest], budget), key=layout.padded_tokens)
    steps, first = (_in_step(each, idle, layout) for each in (plans, looks))
    return OptimizerStep(epoch, tuple(batch), steps, first)


def _in_step(
    plans: list[list[MicroBatch]], idle: MicroBatch, layout: Layout
) -> tuple[tuple[MicroStep, ...], ...]:
    """As many passes for every worker, of as many pieces: who has fewer repeats `idle` with weight 0."""
    steps: list[list[MicroStep]] = [[] for _ in plans]
    for passes in zip_longest(*plans, fillvalue=idle):
        chunks = max(map(layout.head_chunks, passes))
        for own, each in zip(steps, passes, strict=True):
            own.append(MicroStep(each.groups, each.part, int(each is not idle), chunks))
    return tuple(map(tuple, steps))


def balanced(tokens: dict[int, int], world_size: int) -> list[list[int]]:
    """Shares of the same number of groups, or of one fewer where they do not divide, and of about equal tokens.

    The groups are dealt in rounds, longest first, one to each worker. Of the rounds, the two that differ most
    within are joined, most tokens to fewest, until one is left: the largest differencing method for parts of
    equal size (Michiels, Korst, Aarts and van Leeuwen, STACS 2003). Joining never makes a difference larger, so
    workers differ by no more than the groups of one round did. Then the worker with the most and the one with
    the fewest exchange two groups for as long as that brings them closer.

    Args:
        tokens: of each group, by its index.
        world_size: workers.

    Returns:
        For each worker its groups.
    """
    order = sorted(tokens, key=lambda i: (-tokens[i], i))
    tie = count()

    def entry(shares: list[_Share]) -> tuple[int, int, list[_Share]]:
        shares = sorted(shares, key=lambda share: (-share[0], share[1]))
        return shares[-1][0] - shares[0][0], next(tie), shares

    rounds = []
    for start in range(0, len(order), world_size):
        dealt: list[_Share] = [(tokens[i], [i]) for i in order[start : start + world_size]]
        rounds.append(entry(dealt + [(0, [])] * (world_size - len(dealt))))
    heapq.heapify(rounds)
    while len(rounds) > 1:
        (_, _, one), (_, _, other) = heapq.heappop(rounds), heapq.heappop(rounds)
        joined = [(a + b, x + y) for (a, x), (b, y) in zip(one, reversed(other), strict=True)]
        heapq.heappush(rounds, entry(joined))
    shares = [groups for _, groups in rounds[0][2]]
    while _exchange(shares, tokens):
        pass
    return shares


def _exchange(shares: list[list[int]], tokens: dict[int, int]) -> bool:
    """Swap the two groups that best even out the largest and the smallest share; False if none does."""
    loads = [sum(tokens[i] for i in share) for share in shares]
    most, fewest = shares[int(np.argmax(loads))], shares[int(np.argmin(loads))]
    gap = max(loads) - min(loads)
    if not fewest or not gap:
        return False
    more, less = (np.array([tokens[i] for i in share]) for share in (most, fewest))
    moved = more[:, None] - less
    x, y = np.unravel_index(np.abs(2 * moved - gap).argmin(), moved.shape)
    if not 0 < moved[x, y] < gap:
        return False
    most[x], fewest[y] = fewest[y], most[x]
    return True


def _split_until(plan: list[MicroBatch], num: int) -> None:
    """Halve the fullest micro-batches until there are `num`, as real work is better than idle passes."""
    while 0 < len(plan) < num:
        fullest = max(range(len(plan)), key=lambda i: len(plan[i].groups))
        groups = plan[fullest].groups
        if len(groups) == 1:
            return
        middle = len(groups) // 2
        plan[fullest] = MicroBatch(groups[:middle])
        plan.append(MicroBatch(groups[middle:]))
