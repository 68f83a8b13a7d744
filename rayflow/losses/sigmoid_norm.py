"""The DPO loss, sigmoid-norm in the RSO paper: logistic regression on reference-normalised margins."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from pydantic import Field

from rayflow.core.options import KindOptions
from rayflow.losses.base import LossInputs

if TYPE_CHECKING:
    from torch import Tensor


class SigmoidNorm:
    """log(1 + exp(-gamma D)) for every pair, D = (L_w - R_w) - (L_l - R_l).

    Source: RSO (arXiv:2309.06657) section 3.3; DPO (arXiv:2305.18290) Eq 7 with gamma for its beta.
    """

    class Config(KindOptions):
        """`gamma` scales the margin in nats: the strength of the pull towards the reference."""

        kind: str = "sigmoid_norm"
        gamma: float = Field(default=0.05, gt=0)

    unit: Literal["pairs"] = "pairs"
    uses_reference = True
    uses_rewards = False
    uses_targets = False
    uses_unpaired = False

    def __init__(self, options: Config) -> None:
        self.gamma = options.gamma

    def __call__(self, inputs: LossInputs) -> Tensor:
        """Loss of every pair: [p] float32. The gradient with respect to L_w is -gamma sigmoid(-gamma D)."""
        from torch.nn.functional import softplus

        ratio = inputs.logprobs - inputs.ref_logprobs.detach()
        chosen, rejected = inputs.pairs.unbind(dim=1)
        return softplus(-self.gamma * (ratio[chosen] - ratio[rejected]))  # stable for any finite margin
