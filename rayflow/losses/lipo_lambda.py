"""LiPO-lambda: logistic regression on all pairs of a group, each weighted by what swapping its two would change."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from pydantic import Field

from rayflow.core.options import KindOptions
from rayflow.losses.base import LossInputs
from rayflow.losses.groups import ranked_pairs, sum_by_group

if TYPE_CHECKING:
    from torch import Tensor


class LipoLambda:
    """Sum over psi_i > psi_j of Delta_ij log(1 + exp(-(s_i - s_j))) for every group, s = gamma (L - R).

    Delta_ij = |G_i - G_j| |1/D_i - 1/D_j| with the gain G = 2^psi - 1 and the discount D = log2(1 + rank), the
    rank of a response in its group by s, 1 for the highest. Delta carries no gradient. The paper writes log; base
    2 is the usual one of DCG, and another base would only scale the loss.

    Equal s have no order, and at the start, where the policy is the reference, all s are equal: then Delta is its
    expectation over a random order of the equal ones. Giving them all one rank would make every Delta 0 and the
    training never start. The pairs come from the rewards, never from the pair list.

    Source: LiPO (arXiv:2402.01878) Eq 2 and 8; section 5 for the labels psi.
    """

    class Config(KindOptions):
        """`gamma` (the paper's beta) scales s.

        `labels`: "win_probability": psi is the mean over the group of the Bradley-Terry probability
        sigmoid(r_i - r_j), itself included, as the paper averages its ranker's; "reward": psi is the reward
        itself, which should then lie between 0 and 1.
        """

        kind: str = "lipo_lambda"
        gamma: float = Field(default=0.05, gt=0)
        labels: Literal["win_probability", "reward"] = "win_probability"

    unit: Literal["groups"] = "groups"
    uses_reference = True
    uses_rewards = True
    uses_targets = False
    uses_unpaired = True

    def __init__(self, options: Config) -> None:
        self.gamma, self.labels = options.gamma, options.labels

    def __call__(self, inputs: LossInputs) -> Tensor:
        """Loss of every group: [g] float32."""
        from torch.nn.functional import softplus

        scores = self.gamma * (inputs.logprobs - inputs.ref_logprobs.detach())
        better, worse = ranked_pairs(inputs)
        gains = self._labels(inputs).exp2()
        weights = (gains[better] - gains[worse]).abs() * discount_gaps(
            scores.detach(), inputs.groups, better, worse
        )
        losses = weights.to(scores.dtype) * softplus(scores[worse] - scores[better])
        return sum_by_group(losses, inputs.groups[better], inputs.num_groups)

    def _labels(self, inputs: LossInputs) -> Tensor:
        """[m]: psi."""
        if self.labels == "reward":
            return inputs.rewards
        same = (inputs.groups[:, None] == inputs.groups).to(inputs.rewards.dtype)
        wins = (inputs.rewards[:, None] - inputs.rewards).sigmoid()
        return (same * wins).sum(dim=1) / same.sum(dim=1)


def discount_gaps(scores: Tensor, groups: Tensor, first: Tensor, second: Tensor) -> Tensor:
    """Expected |1/D(rank of first) - 1/D(rank of second)| over a random order of equal scores.

    A response with h higher scores and t - 1 equal ones in its group takes each of the ranks h+1 .. h+t equally
    often. Two with different scores never change order, so their gap is the difference of their mean 1/D. Two of
    the same t take two different ranks of these, and the sum of |1/D_a - 1/D_b| over all pairs a < b counts each
    1/D_a with (number of ranks behind a) - (number before a).

    Args:
        scores: [m], without a gradient.
        groups: [m] int64.
        first: [n] int64, positions into the m responses.
        second: [n] int64, each in the group of its first.

    Returns:
        [n] float64.
    """
    import torch

    same = groups[:, None] == groups
    above = (same & (scores > scores[:, None])).sum(dim=1)
    last = above + (same & (scores == scores[:, None])).sum(dim=1)
    ranks = torch.arange(1, len(scores) + 1, dtype=torch.float64, device=scores.device)
    inverse = 1 / (1 + ranks).log2()
    zero = inverse.new_zeros(1)
    sums = torch.cat([zero, inverse.cumsum(0)])  # differences of these are sums over a range of ranks
    moments = torch.cat([zero, (ranks * inverse).cumsum(0)])
    total, moment, count = sums[last] - sums[above], moments[last] - moments[above], last - above
    apart = (total / count)[first] - (total / count)[second]
    # ranks a = above + 1 .. last: behind - before = (last - a) - (a - above - 1) = last + above + 1 - 2 a
    within = ((last + above + 1) * total - 2 * moment) * 2 / (count * (count - 1)).clamp(min=1)
    return torch.where(above[first] == above[second], within[first], apart.abs())
