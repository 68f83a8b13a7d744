"""Sample: n candidates per prompt, one engine request each. Row in: `Prompt`. Row out: `Candidates`."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from rayflow.config import PoolOptions
from rayflow.core.chat import prompt_token_ids
from rayflow.core.options import KindOptions, build
from rayflow.core.rows import Candidates, Failure, Prompt
from rayflow.core.seeds import sampling_seed
from rayflow.engines.base import Engine, Generation, SamplingOptions
from rayflow.errors import DataError
from rayflow.pipeline.stage import failure_of


@dataclass
class SampleStage:
    """Holds one engine per worker and keeps every prompt of the shards in flight inside it.

    Attributes:
        side: of a comparison, whose draws must not hang together with the other side's; "" outside of one.
    """

    name: str
    inputs: tuple[str, ...]
    model: str
    engine_options: KindOptions
    sampling: SamplingOptions
    seed: int
    pool: PoolOptions
    model_is_input: bool = False
    """The model is another stage's product, whose fingerprint already stands for its content."""
    side: str = ""

    reads = Prompt
    writes = Candidates
    actor = True

    @property
    def models(self) -> tuple[str, ...]:
        """The policy, unless a stage of this run made it."""
        return () if self.model_is_input else (self.model,)

    def identity(self) -> dict[str, Any]:
        """Engine, sampling settings, seed and side."""
        return {
            "engine": self.engine_options.identity(),
            "sample": self.sampling.identity(),
            "seed": self.seed,
            **({"side": self.side} if self.side else {}),
        }

    def setup(self) -> None:
        """Start the engine."""
        self._engine: Engine = build("engine", self.engine_options)
        self._engine.setup(self.model)

    async def process(self, rows: Sequence[Prompt]) -> Sequence[Candidates | Failure]:
        """All prompts of the shard at once; the engine queues what it cannot run yet."""
        return await asyncio.gather(*(self._one(row) for row in rows))

    async def _one(self, row: Prompt) -> Candidates | Failure:
        return await self._draw(row)

    async def _draw(self, row: Prompt, *number: int) -> Candidates | Failure:
        """n candidates; `number` says which draw for this prompt it is, if not the first."""
        try:
            ids = prompt_token_ids(self._engine.tokenizer, row)
        except DataError as error:
            return failure_of(row.prompt_id, "prompt cannot be encoded", error)
        room = self._engine.max_model_len - self.sampling.max_tokens
        if len(ids) > room:
            detail = (
                f"{len(ids)} prompt tokens + {self.sampling.max_tokens} for the response exceed the "
                f"engine's context of {self._engine.max_model_len}"
            )
            return failure_of(row.prompt_id, "prompt longer than the context", detail)
        # One seed per prompt, the same for every policy that answers it: common random numbers make the comparison
        # of two policies less noisy. Not the same for both sides of one win rate, which is of independent draws:
        # from equal seeds two policies that are almost the same would draw the same texts, and tie.
        side = (self.side,) if self.side else ()
        seed = sampling_seed(self.seed, "sample", *side, row.prompt_id, *number)
        try:
            made = await self._engine.generate(ids, self.sampling, seed)
        except (DataError, ValueError) as error:
            return failure_of(row.prompt_id, "sampling failed", error)
        if wrong := _incomplete(made, self.sampling.num_candidates):
            return failure_of(row.prompt_id, "engine gave no whole candidates", wrong)
        return Candidates(
            prompt_id=row.prompt_id,
            prompt_token_ids=ids,
            responses=made.responses,
            token_ids=made.token_ids,
            logprobs=made.logprobs,
            finish_reasons=made.finish_reasons,
            seed=seed,
        )

    def count_tokens(self, rows: Sequence[Candidates]) -> int:
        """Generated tokens."""
        return sum(len(ids) for row in rows for ids in row.token_ids)

    def close(self) -> None:
        """Stop the engine."""
        self._engine.close()


def _incomplete(made: Generation, n: int) -> str:
    """What is missing from what an engine of someone's own gave; "" where nothing is."""
    sizes = {
        "responses": len(made.responses),
        "token_ids": len(made.token_ids),
        "logprobs": len(made.logprobs),
        "finish_reasons": len(made.finish_reasons),
    }
    if wrong := {name: size for name, size in sizes.items() if size != n}:
        return f"{wrong} where {n} candidates were asked for"
    empty = [place for place, ids in enumerate(made.token_ids) if not len(ids)]
    return f"candidate {empty[0]} has no tokens, not even the one that ends it" if empty else ""
