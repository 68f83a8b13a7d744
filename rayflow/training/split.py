"""The gradient of a loss over a group that was split, because it is longer than one forward pass may be.

A loss L reads a group through its k log-probabilities l only, so its gradient in the weights w is
sum_i dL/dl_i dl_i/dw. Passes without gradients give all of l; L is computed once, with all numbers of the group,
and gives the k slopes dL/dl_i; then each part of the group adds its own slopes times dl_i/dw. That is the
gradient of the whole group, for any loss, for the price of a second forward pass over its tokens.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from rayflow.losses.base import loss_items

if TYPE_CHECKING:
    from rayflow.losses.base import Loss, LossInputs


@dataclass(frozen=True)
class Slopes:
    """A loss at the numbers of one group.

    Attributes:
        total: [] float32, the sum of the loss's items, without a gradient.
        of_responses: [k] float32, its derivative in each response's log-probability.
    """

    total: torch.Tensor
    of_responses: torch.Tensor

    @classmethod
    def at(cls, loss: Loss, inputs: LossInputs) -> Slopes:
        """Of a loss at `inputs`, whose `logprobs` [k] are a leaf that requires a gradient."""
        total = loss_items(loss, inputs).sum()
        found = (None,)
        if total.requires_grad:
            found = torch.autograd.grad(total, inputs.logprobs, allow_unused=True)
        # Where the loss is flat, as a hinge that all pairs have passed, no gradient comes back.
        flat = torch.zeros_like(inputs.logprobs)
        return cls(total.detach(), flat if found[0] is None else found[0])
