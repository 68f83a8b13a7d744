"""The SLiC-HF loss: a hinge on the policy's own margin, and a pull towards a good response of the group."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from pydantic import Field

from rayflow.core.options import KindOptions
from rayflow.losses.base import LossInputs
from rayflow.losses.groups import best_logprobs, sum_by_group

if TYPE_CHECKING:
    from torch import Tensor


class Slic:
    """max(0, delta - L_w + L_l) for every pair, and -lambda L_ref once for every group.

    The unit is the pair, so a group's -lambda L_ref is divided evenly among its pairs: the items of a group with
    P pairs add up to (hinges of the P pairs) - lambda L_ref. With lambda = 0 this is delta times `hinge` with
    gamma = 1 / delta.

    Source: SLiC-HF (arXiv:2305.10425) section 2; RSO (arXiv:2309.06657) Table 5 on the size of lambda.
    """

    class Config(KindOptions):
        """The margin and the pull.

        Attributes:
            delta: the margin in nats: a pair stops to count once L_w - L_l reaches it.
            regularization: lambda, the weight of log pi(y_ref).
            y_ref: "target": the prompt's own target (a prompt without one is a failed row); "best": the
                response with the highest reward in the group.
        """

        kind: str = "slic"
        delta: float = Field(default=1.0, gt=0)
        regularization: float = Field(default=0.0, ge=0)
        y_ref: Literal["target", "best"] = "target"

    unit: Literal["pairs"] = "pairs"
    uses_reference = False
    uses_rewards = False
    uses_targets = False
    uses_unpaired = False

    def __init__(self, options: Config) -> None:
        self.delta, self.regularization, self.y_ref = options.delta, options.regularization, options.y_ref
        regularized = options.regularization > 0
        self.uses_rewards = self.uses_unpaired = regularized and options.y_ref == "best"
        self.uses_targets = regularized and options.y_ref == "target"

    def __call__(self, inputs: LossInputs) -> Tensor:
        """Loss of every pair: [p] float32. The gradient with respect to L_w is -1 while the hinge is positive."""
        chosen, rejected = inputs.pairs.unbind(dim=1)
        hinge = (self.delta - inputs.logprobs[chosen] + inputs.logprobs[rejected]).clamp(min=0)
        if not self.regularization:
            return hinge
        owner = inputs.groups[chosen]
        num_pairs = sum_by_group(hinge.new_ones(len(hinge)), owner, inputs.num_groups)
        return hinge - self.regularization * (self._toward(inputs) / num_pairs.clamp(min=1))[owner]

    def _toward(self, inputs: LossInputs) -> Tensor:
        """[g] float32, nats: L_ref of every group."""
        if self.y_ref == "best":
            return best_logprobs(inputs)
        present = inputs.targets >= 0
        return inputs.logprobs[inputs.targets.clamp(min=0)].where(present, inputs.logprobs.new_zeros(()))
