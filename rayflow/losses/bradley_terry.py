"""The loss that a pointwise reward model is trained with: its scores should explain the labels."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from rayflow.core.options import KindOptions
from rayflow.losses.base import LossInputs

if TYPE_CHECKING:
    from torch import Tensor


class BradleyTerry:
    """log(1 + exp(-(s_w - s_l))) for every pair, s the score of the model that is trained (`logprobs` holds it).

    The negative log-likelihood of the labels if the chosen one wins with probability sigmoid(s_w - s_l).

    Source: Bradley and Terry, Biometrika 39 (1952); as a loss of language models: arXiv:2203.02155 Eq 1.
    """

    class Config(KindOptions):
        """Nothing to set."""

        kind: str = "bradley_terry"

    unit: Literal["pairs"] = "pairs"
    uses_reference = False
    uses_rewards = False
    uses_targets = False
    uses_unpaired = False

    def __init__(self, options: Config) -> None:
        pass

    def __call__(self, inputs: LossInputs) -> Tensor:
        """Loss of every pair: [p] float32. The gradient with respect to s_w is -sigmoid(s_l - s_w)."""
        from torch.nn.functional import softplus

        chosen, rejected = inputs.pairs.unbind(dim=1)
        return softplus(inputs.logprobs[rejected] - inputs.logprobs[chosen])
