"""The interface of a loss. It sees numbers per response and a pair list; never text, models or devices.

"norm" in a loss's name means normalised by the reference (SFT) policy, as in the RSO paper. It does not mean
length-normalised, which is what TRL's loss type `sigmoid_norm` is.

A loss declares what it reads (`uses_*`), so that the pipeline computes no more than that: what a loss does not
declare may be NaN. It must not turn an unknown number that it does read into a number: NaN in, NaN out.

A fingerprint holds the name and the settings of a loss of your own, not its code: after an edit, run with
`--force-stage train`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, Protocol

from rayflow.core.options import KindOptions
from rayflow.errors import StageError

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class LossInputs:
    """Per-response numbers of a batch of groups, flattened over the batch.

    Attributes:
        logprobs: [m] float32, nats, summed response log-probabilities under the policy (EOS included).
            For the training of a reward model: its scores.
        ref_logprobs: [m] float32, nats, the same under the frozen reference; carries no gradient. NaN where it
            was not computed, which it is only for a loss with `uses_reference`.
        num_tokens: [m] int64, response lengths in tokens.
        rewards: [m] float32. NaN where unknown, as in pairs that people labelled; a loss that reads them
            declares it with `uses_rewards`.
        groups: [m] int64, which group (prompt) each response belongs to, 0..g-1. A group is never split
            between batches.
        pairs: [p, 2] int64, (chosen, rejected) as positions into the m responses.
        targets: [g] int64, position of each group's target response (the supervised answer) in the m
            responses; -1 where a group has none. Targets are only there for a loss with `uses_targets`.
    """

    logprobs: Tensor
    ref_logprobs: Tensor
    num_tokens: Tensor
    rewards: Tensor
    groups: Tensor
    pairs: Tensor
    targets: Tensor

    @property
    def num_groups(self) -> int:
        """g."""
        return len(self.targets)


class Loss(Protocol):
    """What every loss offers.

    Attributes:
        Config: its settings.
        unit: what one item of the result is. The trainer divides the sum of the items by the number of such
            units in the global batch, so the gradient does not depend on workers or accumulation.
        uses_reference: reads `ref_logprobs`.
        uses_rewards: reads `rewards`.
        uses_targets: reads `targets`.
        uses_unpaired: reads responses that are neither in a pair nor a target. The others' results do not depend
            on them, so they are left out of the batch, and the reference does not compute them.

    The four are class attributes, or instance attributes where an option decides. A loss whose implicit
    reward is not gamma times its log-probabilities (see `implicit_rewards`) has a method of that name, too.
    """

    Config: type[KindOptions]
    unit: Literal["pairs", "responses", "groups"]
    uses_reference: bool
    uses_rewards: bool
    uses_targets: bool
    uses_unpaired: bool

    def __init__(self, options: KindOptions) -> None: ...

    def __call__(self, inputs: LossInputs) -> Tensor:
        """Loss of every item: [items] float32."""


@dataclass(frozen=True)
class Needs:
    """What a loss reads besides log-probabilities, lengths, groups and pairs."""

    reference: bool
    rewards: bool
    targets: bool
    unpaired: bool


def needs(loss: Loss) -> Needs:
    """What must be computed for an instance of a loss.

    A plug-in that declares nothing gets the reference and every response, and neither rewards nor targets are
    guaranteed.
    """
    return Needs(
        reference=getattr(loss, "uses_reference", True),
        rewards=getattr(loss, "uses_rewards", False),
        targets=getattr(loss, "uses_targets", False),
        unpaired=getattr(loss, "uses_unpaired", True),
    )


UNITS = ("pairs", "responses", "groups")


def loss_items(loss: Loss, inputs: LossInputs) -> Tensor:
    """Loss of every item, as the trainer needs it, which divides their sum by the items of the whole batch.

    Raises:
        StageError: the loss gives another number of them, such as a mean over those that it happens to see.
    """
    items = loss(inputs)
    unit = getattr(loss, "unit", "")
    sizes = zip(UNITS, (len(inputs.pairs), len(inputs.logprobs), inputs.num_groups), strict=True)
    wanted = (dict(sizes)[unit],)
    if tuple(items.shape) != wanted:
        raise StageError(
            f"{type(loss).__name__} must return one number for each of the {wanted[0]} {unit} that it gets (its unit), "
            f"and returned the shape {tuple(items.shape)}. Do not sum or average: the trainer does that."
        )
    return items


def implicit_rewards(loss: Loss, inputs: LossInputs, gamma: float) -> Tensor:
    """By what the loss ranks the responses: what the metrics call rewards.

    That is gamma (log pi - log pi_reference), or gamma log pi for a loss without a reference, unless the loss
    says otherwise with a method `implicit_rewards(inputs)`.

    Args:
        loss: the loss.
        inputs: what it saw.
        gamma: the loss's setting of that name; 1 for a loss without one.

    Returns:
        [m] float32, without a gradient.
    """
    own = getattr(loss, "implicit_rewards", None)
    if own is not None:
        return own(inputs).detach()
    if needs(loss).reference:
        return gamma * (inputs.logprobs - inputs.ref_logprobs).detach()
    return gamma * inputs.logprobs.detach()
