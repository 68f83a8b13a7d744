"""The settings of a comparison side by side: who judges, how often, and what a win is."""

from __future__ import annotations

from pydantic import Field, model_validator

from rayflow.core.options import JudgeOptions
from rayflow.evaluation.side_by_side import Reading
from rayflow.judges.base import JudgeSampling


class SideBySideOptions(JudgeSampling):
    """A language model compares one response of each side (AutoSxS).

    Attributes:
        judge: who compares.
        template: what it reads: "summarization", "helpfulness", "generic", or a file of one's own.
        num_verdicts: sampled answers to each item, half of them with the two responses swapped.
        num_items: items for each prompt: response i of one side beside response i of the other.
        threshold: how far an item's average must be from even for a win or a loss.
        reading: of the threshold: "distance" |avg - 1/2|, or "scaled" |2 avg - 1|. Both are reported.
    """

    judge: JudgeOptions
    template: str = "generic"
    num_verdicts: int = Field(default=8, ge=2, multiple_of=2)
    num_items: int = Field(default=1, gt=0)
    threshold: float = Field(default=0.35, ge=0, lt=1)
    reading: Reading = "distance"

    @model_validator(mode="after")
    def _something_can_be_won(self) -> SideBySideOptions:
        if self.reading == "distance" and self.threshold >= 0.5:
            raise ValueError(
                f"threshold is {self.threshold:g}, and |avg - 1/2| is at most 0.5, so nothing could be won or lost: "
                f"lower it, or set reading: scaled, |2 avg - 1|, up to 1"
            )
        return self
