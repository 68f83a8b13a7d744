"""Settings that were given and change nothing, because what would read them is not set."""

from __future__ import annotations

from rayflow.config import RunConfig
from rayflow.config.blocks import EvaluationOptions, ReferenceOptions, RoundOptions
from rayflow.core.options import build
from rayflow.losses.base import needs


def unread_settings(config: RunConfig) -> list[str]:
    """A sentence for each block that no stage of the run reads, with what to set or remove.

    It may be meant, such as a block that several configurations share, so it is said and not refused.
    """
    told = []
    if config.prompts.validation is not None and config.train.choose is None:
        told.append(
            "prompts.validation is read by train.choose alone: set it too, or remove prompts.validation."
        )
    if config.prompts.evaluation is None and config.evaluate != EvaluationOptions():
        told.append(
            "Nothing is evaluated, whatever evaluate says: set prompts.evaluation, or remove evaluate."
        )
    loss = config.train.loss
    if config.reference != ReferenceOptions() and not needs(build("loss", loss)).reference:
        told.append(
            f"Loss '{loss.kind}' reads no reference log-probabilities: the reference block changes nothing."
        )
    if config.rounds != RoundOptions() and config.rounds.num == 1:
        told.append("There is one round: the rounds block changes nothing. Set rounds.num, or remove it.")
    return told
