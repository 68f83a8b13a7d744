"""DPO that knows by how much the chosen response is better: the reward margin as an offset or as a weight."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from pydantic import Field

from rayflow.core.options import KindOptions
from rayflow.losses.base import LossInputs

if TYPE_CHECKING:
    from torch import Tensor


class MarginWeighted:
    """`sigmoid_norm` with the margin M = r_w - r_l of every pair; D = (L_w - R_w) - (L_l - R_l).

    offset: log(1 + exp(-(gamma D - alpha M))): a pair must win by more, the larger its margin. A margin below 0
    (a label that contradicts the rewards) asks for less.
    log_offset: the same with alpha log M for alpha M. A pair without a positive margin counts nothing, which is
    the limit of M to 0.
    weight: alpha max(0, M) log(1 + exp(-gamma D)).

    M comes from the stored rewards, which under a pairwise ranker are RSO's Eq 7 against one response of the prompt,
    while labels come from new calls: M is then not the pair's stored `margins`, and is below 0 where the two disagree.

    Source: ODPO (arXiv:2402.10571), whose offset is alpha f(r_w - r_l) with an increasing f, such as log; weight:
    the scaled losses of HelpSteer2-Preference (arXiv:2410.01257), there with the strength of a human preference.
    """

    class Config(KindOptions):
        """`gamma` scales D, `alpha` the margin, and `margin` says how it enters."""

        kind: str = "margin_weighted"
        gamma: float = Field(default=0.05, gt=0)
        alpha: float = Field(default=1.0, ge=0)
        margin: Literal["offset", "log_offset", "weight"] = "offset"

    unit: Literal["pairs"] = "pairs"
    uses_reference = True
    uses_rewards = True
    uses_targets = False
    uses_unpaired = False

    def __init__(self, options: Config) -> None:
        self.gamma, self.alpha, self.margin = options.gamma, options.alpha, options.margin

    def __call__(self, inputs: LossInputs) -> Tensor:
        """Loss of every pair: [p] float32."""
        import torch
        from torch.nn.functional import softplus

        ratio = inputs.logprobs - inputs.ref_logprobs.detach()
        chosen, rejected = inputs.pairs.unbind(dim=1)
        scaled = self.gamma * (ratio[chosen] - ratio[rejected])
        margin = inputs.rewards[chosen] - inputs.rewards[rejected]
        if self.margin == "weight":
            return self.alpha * margin.clamp(min=0) * softplus(-scaled)
        if self.margin == "offset":
            return softplus(self.alpha * margin - scaled)
        log = margin.clamp(min=torch.finfo(margin.dtype).tiny).log()
        return softplus(self.alpha * log - scaled) * (margin > 0)
