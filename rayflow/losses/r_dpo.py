"""R-DPO: DPO with a term for the difference in length, so that length is not what is learned."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from pydantic import Field

from rayflow.core.options import KindOptions
from rayflow.losses.base import LossInputs

if TYPE_CHECKING:
    from torch import Tensor


class RDpo:
    """log(1 + exp(-(gamma D + alpha (|y_w| - |y_l|)))) for every pair; D = (L_w - R_w) - (L_l - R_l).

    The sign: the policy that maximises E[r - alpha |y|] - gamma KL has r = gamma log(pi / pi_ref) + alpha |y| + c,
    and Bradley-Terry on that r adds the length difference. So a chosen response that is longer needs less of a
    margin, and pairs whose chosen response is shorter pull harder.

    Source: Park et al. (arXiv:2403.19159).
    """

    class Config(KindOptions):
        """`gamma` scales D; `alpha` is the penalty per token of length, in units of the reward."""

        kind: str = "r_dpo"
        gamma: float = Field(default=0.05, gt=0)
        alpha: float = Field(default=0.01, ge=0)

    unit: Literal["pairs"] = "pairs"
    uses_reference = True
    uses_rewards = False
    uses_targets = False
    uses_unpaired = False

    def __init__(self, options: Config) -> None:
        self.gamma, self.alpha = options.gamma, options.alpha

    def __call__(self, inputs: LossInputs) -> Tensor:
        """Loss of every pair: [p] float32."""
        from torch.nn.functional import softplus

        ratio = inputs.logprobs - inputs.ref_logprobs.detach()
        score = self.gamma * ratio + self.alpha * inputs.num_tokens
        chosen, rejected = inputs.pairs.unbind(dim=1)
        return softplus(score[rejected] - score[chosen])
