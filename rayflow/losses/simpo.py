"""SimPO: logistic regression on length-normalised log-probabilities with a target margin and no reference."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from pydantic import Field

from rayflow.core.options import KindOptions
from rayflow.losses.base import LossInputs

if TYPE_CHECKING:
    from torch import Tensor


class SimPo:
    """log(1 + exp(-(gamma L_w / |y_w| - gamma L_l / |y_l| - target_margin))) for every pair.

    Naming: `gamma` scales log-probabilities here as in every other loss of this project. The paper calls that
    beta, and calls the target margin gamma.

    Source: SimPO (arXiv:2405.14734) section 2.
    """

    class Config(KindOptions):
        """`gamma` scales the log-probability per token, `target_margin` is what the difference should exceed."""

        kind: str = "simpo"
        gamma: float = Field(default=2.0, gt=0)
        target_margin: float = Field(default=1.0, ge=0)

    unit: Literal["pairs"] = "pairs"
    uses_reference = False
    uses_rewards = False
    uses_targets = False
    uses_unpaired = False

    def __init__(self, options: Config) -> None:
        self.gamma, self.target_margin = options.gamma, options.target_margin

    def __call__(self, inputs: LossInputs) -> Tensor:
        """Loss of every pair: [p] float32."""
        from torch.nn.functional import softplus

        score = self.implicit_rewards(inputs)
        chosen, rejected = inputs.pairs.unbind(dim=1)
        return softplus(self.target_margin - (score[chosen] - score[rejected]))

    def implicit_rewards(self, inputs: LossInputs) -> Tensor:
        """[m] float32: gamma L / |y|."""
        return self.gamma * inputs.logprobs / inputs.num_tokens
