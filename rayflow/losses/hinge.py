"""The SLiC loss as the RSO paper writes it: a hinge on the policy's own margin, without a reference."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from pydantic import Field

from rayflow.core.options import KindOptions
from rayflow.losses.base import LossInputs

if TYPE_CHECKING:
    from torch import Tensor


class Hinge:
    """max(0, 1 - gamma (L_w - L_l)) for every pair; TRL's `hinge` is `hinge_norm` here.

    Source: RSO (arXiv:2309.06657) Eq 9.
    """

    class Config(KindOptions):
        """`gamma` scales the margin in nats: a pair stops to count once L_w - L_l reaches 1 / gamma."""

        kind: str = "hinge"
        gamma: float = Field(default=0.05, gt=0)

    unit: Literal["pairs"] = "pairs"
    uses_reference = False
    uses_rewards = False
    uses_targets = False
    uses_unpaired = False

    def __init__(self, options: Config) -> None:
        self.gamma = options.gamma

    def __call__(self, inputs: LossInputs) -> Tensor:
        """Loss of every pair: [p] float32. The gradient with respect to L_w is -gamma while it is positive."""
        chosen, rejected = inputs.pairs.unbind(dim=1)
        return (1 - self.gamma * (inputs.logprobs[chosen] - inputs.logprobs[rejected])).clamp(min=0)
