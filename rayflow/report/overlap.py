"""Prompts that are called held out and are not: what a reader must know of them."""

from __future__ import annotations

from dataclasses import dataclass

from rayflow.report import words

_LEARNED = "the policy has learned from those, so"
CONSEQUENCES = {
    ("evaluation", "train"): f"{_LEARNED} the win rate says little of prompts that it has not seen",
    ("evaluation", "validation"): "the checkpoint was chosen by those, so the win rate is optimistic",
    ("validation", "train"): f"{_LEARNED} the checkpoint was chosen on prompts that it has seen",
}
"""Of prompts that the first part has in common with the second."""
_CALLED = {"train": "training", "validation": "validation", "evaluation": "held-out"}


@dataclass(frozen=True, kw_only=True)
class Overlap:
    """Prompts that two files of a run have in common.

    Attributes:
        part, other: the two, as the block `prompts` calls them: "evaluation" or "validation", and "train" or
            "validation".
        num_shared: prompts of `part` that are among those of `other`.
        num_prompts: prompts of `part`.
    """

    part: str
    other: str
    num_shared: int
    num_prompts: int

    @property
    def is_seen(self) -> bool:
        """Whether it is of evaluation with training: what the headline claims not to be."""
        return (self.part, self.other) == ("evaluation", "train")

    @property
    def note(self) -> str:
        """What it means, and what to do."""
        return (
            f"{self.num_shared:,} of {words.count(self.num_prompts, f'{_CALLED[self.part]} prompt')} "
            f"{'is' if self.num_shared == 1 else 'are'} among the {_CALLED[self.other]} prompts: "
            f"{CONSEQUENCES[self.part, self.other]}. Take them out of prompts.{self.part} or of prompts.{self.other}."
        )
