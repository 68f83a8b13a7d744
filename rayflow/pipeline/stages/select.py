"""Select: which candidates go on. Row in: their rewards only. Row out: `Accepted`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from rayflow.config import PoolOptions
from rayflow.core.options import KindOptions, build
from rayflow.core.rows import Accepted, Failure, Scores
from rayflow.core.seeds import rng
from rayflow.pipeline.stage import SimpleStage, failure_of


@dataclass
class SelectStage(SimpleStage):
    """Applies the selection rule to each prompt with the prompt's own generator."""

    name: str
    inputs: tuple[str, ...]
    options: KindOptions
    seed: int
    pool: PoolOptions

    reads = Scores
    writes = Accepted

    def identity(self) -> dict[str, Any]:
        """The rule, its settings and the seed."""
        return {"select": self.options.identity(), "seed": self.seed}

    async def process(self, rows: Sequence[Scores]) -> Sequence[Accepted | Failure]:
        """One decision per prompt; an empty one is a failure, since nothing could follow from it."""
        selector = build("selection", self.options)
        return [self._one(selector, row) for row in rows]

    def _one(self, selector: Any, row: Scores) -> Accepted | Failure:
        try:
            chosen = selector.select(row.rewards, rng(self.seed, "select", row.prompt_id))
        except ValueError as error:
            return failure_of(row.prompt_id, "selection failed", error)
        if not len(chosen.accepted):
            return failure_of(row.prompt_id, "nothing accepted", f"of {len(row.rewards)} candidates")
        return Accepted(
            prompt_id=row.prompt_id,
            accepted=chosen.accepted,
            num_rounds=chosen.num_rounds,
            acceptance_rate=len(chosen.accepted) / max(1, chosen.num_visits),
        )
