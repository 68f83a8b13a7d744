"""Diversity: how different the responses to one prompt are. Row in: `Responses`. Row out: `Diversity`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from rayflow.config import PoolOptions
from rayflow.core.evaluation_rows import Diversity
from rayflow.core.rows import Responses
from rayflow.evaluation.diversity import diversity
from rayflow.pipeline.stage import SimpleStage


@dataclass
class DiversityStage(SimpleStage):
    """Counts runs of words; needs no model.

    Attributes:
        first: how many responses to each prompt are looked at; None: all of them.
    """

    name: str
    inputs: tuple[str, ...]
    pool: PoolOptions
    first: int | None = None

    reads = Responses
    writes = Diversity

    def identity(self) -> dict[str, Any]:
        """How many responses count."""
        return {"diversity": "words", "first": self.first}

    async def process(self, rows: Sequence[Responses]) -> Sequence[Diversity]:
        """Prompt by prompt."""
        return [diversity(row.prompt_id, row.responses[: self.first]) for row in rows]
