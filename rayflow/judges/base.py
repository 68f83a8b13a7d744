"""The interface of a judge. Row in: one filled template. Row out: sampled answers, as text.

A judge writes; what a verdict is, is read from its words elsewhere (`judges.verdict`), the same for all.
"""

from __future__ import annotations

from typing import Protocol

from pydantic import Field

from rayflow.core.options import KindOptions, Options


class JudgeSampling(Options):
    """How a judge's answers are drawn.

    Attributes:
        temperature: above 0, or the verdicts of one item would all be the same.
        top_p: keep the smallest set of tokens with this probability mass.
        max_tokens: length limit of an answer; the verdict must fit behind the explanation.
    """

    temperature: float = Field(default=0.7, gt=0)
    top_p: float = Field(default=1.0, gt=0, le=1)
    max_tokens: int = Field(default=256, gt=0)


class Judge(Protocol):
    """What every judge offers. Built on the driver without heavy imports; loaded on its worker in `setup`."""

    Config: type[KindOptions]

    def __init__(self, options: KindOptions) -> None: ...

    @property
    def models(self) -> tuple[str, ...]:
        """Model folders or hub ids whose content belongs to the stage's fingerprint; empty for a server."""

    def setup(self) -> None:
        """Load the model, or look for the token.

        Raises:
            ModelError, ConfigError: what was configured cannot be used.
        """

    async def answers(self, text: str, num: int, sampling: JudgeSampling, seed: int) -> tuple[str, ...]:
        """`num` sampled answers to one filled template.

        Args:
            text: what the judge reads.
            num: answers.
            sampling: how they are drawn.
            seed: below 2**62; answer i may use seed + i.

        Raises:
            DataError, RewardError: this item cannot be judged; it becomes a failure.
            StageError: nothing can be judged.
        """

    def close(self) -> None:
        """Free the model; safe to call twice."""
