"""What losses over whole groups share: the best response, the pairs that rewards imply, sums per group."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rayflow.losses.base import LossInputs

if TYPE_CHECKING:
    from torch import Tensor


def sum_by_group(values: Tensor, groups: Tensor, num_groups: int) -> Tensor:
    """[g]: the sum of each group's `values` [n]; `groups` [n] int64 says whose they are."""
    return values.new_zeros(num_groups).index_add(0, groups, values)


def best_logprobs(inputs: LossInputs) -> Tensor:
    """[g] float32, nats: the log-probability of each group's response with the highest reward.

    Responses that share the highest reward are averaged, so nothing depends on their order. NaN where the group
    has a reward that is NaN: its best response is not known.
    """
    import torch

    floor = torch.full(
        (inputs.num_groups,), -torch.inf, dtype=inputs.rewards.dtype, device=inputs.rewards.device
    )
    highest = floor.scatter_reduce(0, inputs.groups, inputs.rewards, "amax")
    best = (inputs.rewards == highest[inputs.groups]).to(inputs.logprobs.dtype)
    share = best / sum_by_group(best, inputs.groups, inputs.num_groups)[inputs.groups]
    return sum_by_group(share * inputs.logprobs, inputs.groups, inputs.num_groups)


def ranked_pairs(inputs: LossInputs) -> tuple[Tensor, Tensor]:
    """Every two responses of a group with different rewards.

    Returns:
        Two [n] int64, positions into the m responses: the one with the higher reward, the one with the lower.
    """
    same = inputs.groups[:, None] == inputs.groups
    # "not at most" rather than "more than": a reward that is NaN stays in, and makes the loss NaN.
    better, worse = (same & ~(inputs.rewards[:, None] <= inputs.rewards)).nonzero(as_tuple=True)
    return better, worse
