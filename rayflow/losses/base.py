"""The interface of a loss. It sees numbers per response and a pair list; never text, models or devices.

"norm" in a loss's name means normalised by the reference (SFT) policy, as in the RSO paper. It does not mean
length-normalised, which is what TRL's loss type `sigmoid_norm` is.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, Protocol

from rayflow.core.options import KindOptions

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class LossInputs:
    """Per-response numbers of a batch of groups, flattened over the batch.

    Attributes:
        logprobs: [m] float32, nats, summed response log-probabilities under the policy (EOS included).
        ref_logprobs: [m] float32, nats, the same under the frozen reference; carries no gradient.
        num_tokens: [m] int64, response lengths in tokens.
        rewards: [m] float32.
        groups: [m] int64, which group (prompt) each response belongs to, 0..g-1.
        pairs: [p, 2] int64, (chosen, rejected) as positions into the m responses.
        targets: [g] int64, each group's supervised target as a position into the m responses, -1: none.
    """

    logprobs: Tensor
    ref_logprobs: Tensor
    num_tokens: Tensor
    rewards: Tensor
    groups: Tensor
    pairs: Tensor
    targets: Tensor


@dataclass(frozen=True)
class Needs:
    """What a loss reads besides the policy's own log-probabilities."""

    reference: bool
    rewards: bool
    targets: bool


def needs(loss: Loss) -> Needs:
    """What `loss` declares that it reads; one that declares nothing reads the reference."""
    return Needs(
        reference=getattr(loss, "uses_reference", True),
        rewards=getattr(loss, "uses_rewards", False),
        targets=getattr(loss, "uses_targets", False),
    )


class Loss(Protocol):
    """What every loss offers.

    Attributes:
        Config: its settings.
        unit: what one item of the result is. The trainer divides the sum of the items by the number of such
            units in the global batch, so the gradient does not depend on workers or accumulation.
    """

    Config: type[KindOptions]
    unit: Literal["pairs", "responses", "groups"]

    def __init__(self, options: KindOptions) -> None: ...

    def __call__(self, inputs: LossInputs) -> Tensor:
        """Loss of every item: [items] float32."""
