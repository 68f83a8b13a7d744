"""The RRHF loss: rank all responses of a group by length-normalised log-probability, and imitate the best."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from rayflow.core.options import KindOptions
from rayflow.losses.base import LossInputs
from rayflow.losses.groups import best_logprobs, ranked_pairs, sum_by_group

if TYPE_CHECKING:
    from torch import Tensor


class Rrhf:
    """Sum over r_i < r_j of max(0, p_i - p_j), minus L_best, for every group; p = L / n_tokens.

    The pairs come from the rewards, never from the pair list; equal rewards are not ranked. L_best is summed over
    its tokens (the mean of several, should they share the highest reward).

    Source: RRHF (arXiv:2304.05302) section 3.
    """

    class Config(KindOptions):
        """Nothing to set: the paper gives both parts the weight 1."""

        kind: str = "rrhf"

    unit: Literal["groups"] = "groups"
    uses_reference = False
    uses_rewards = True
    uses_targets = False
    uses_unpaired = True

    def __init__(self, options: Config) -> None:
        pass

    def __call__(self, inputs: LossInputs) -> Tensor:
        """Loss of every group: [g] float32."""
        p = self.implicit_rewards(inputs)
        better, worse = ranked_pairs(inputs)
        wrong = (p[worse] - p[better]).clamp(min=0)
        return sum_by_group(wrong, inputs.groups[better], inputs.num_groups) - best_logprobs(inputs)

    def implicit_rewards(self, inputs: LossInputs) -> Tensor:
        """[m] float32, nats per token: p."""
        return inputs.logprobs / inputs.num_tokens
