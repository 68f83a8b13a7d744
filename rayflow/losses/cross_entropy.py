"""Cross-entropy on whole responses: supervised fine-tuning, and what RAFT and ReST do with what they select."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from rayflow.core.options import KindOptions
from rayflow.losses.base import LossInputs

if TYPE_CHECKING:
    from torch import Tensor


class CrossEntropy:
    """-L for every response of every group, or -L / n_tokens.

    Summed, a response counts by its length; `length_normalized` lets every response count the same. Neither is
    the mean over all tokens of a batch, which is what TRL's `sft` is.

    Source: RAFT (arXiv:2304.06767) and ReST (arXiv:2308.08998), which maximise log pi of selected samples.
    """

    class Config(KindOptions):
        """`length_normalized` divides each response's loss by its number of tokens."""

        kind: str = "cross_entropy"
        length_normalized: bool = False

    unit: Literal["responses"] = "responses"
    uses_reference = False
    uses_rewards = False
    uses_targets = False
    uses_unpaired = True

    def __init__(self, options: Config) -> None:
        self.length_normalized = options.length_normalized

    def __call__(self, inputs: LossInputs) -> Tensor:
        """Loss of every response: [m] float32."""
        return -inputs.logprobs / inputs.num_tokens if self.length_normalized else -inputs.logprobs
