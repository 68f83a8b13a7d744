"""Encode: given responses to token ids. Row in: `Example`, or `Prompt` with a target. Row out: `Encoded`.

A target that stands beside other responses is encoded on its own. Row out: `EncodedTarget`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import zip_longest
from typing import Any, Literal

import numpy as np

from rayflow.config import PoolOptions
from rayflow.core.chat import fit, prompt_token_ids, response_token_ids
from rayflow.core.given_rows import Encoded, EncodedTarget, Example
from rayflow.core.model_folder import context_length, load_tokenizer
from rayflow.core.rows import Failure, Prompt, Row
from rayflow.errors import DataError
from rayflow.pipeline.stage import failure_of


@dataclass
class EncodeStage:
    """Writes given responses as the policy would have emitted them: the boundary is exact, EOS is scored.

    Attributes:
        answers: "responses" encodes those of an `Example`, "target" the prompt's target as the one response.
        preferred: of a row with pairs only the responses that were chosen, and never rejected, go on.
    """

    name: str
    inputs: tuple[str, ...]
    model: str
    answers: Literal["responses", "target"]
    pool: PoolOptions
    preferred: bool = False

    writes = Encoded
    actor = True

    @property
    def reads(self) -> type[Row]:
        """What holds the answers."""
        return Example if self.answers == "responses" else Prompt

    @property
    def models(self) -> tuple[str, ...]:
        """The policy, whose tokenizer and template are used."""
        return (self.model,)

    def identity(self) -> dict[str, Any]:
        """Which answers."""
        return {"answers": self.answers} | ({"preferred": True} if self.preferred else {})

    def setup(self) -> None:
        """Load the tokenizer, and look up how long a sequence may be."""
        self._tokenizer = load_tokenizer(self.model)
        self._context = context_length(self.model)

    async def process(self, rows: Sequence[Any]) -> Sequence[Encoded | Failure]:
        """Row by row; one without an answer is a failure."""
        return [self._one(row) for row in rows]

    def _one(self, row: Any) -> Encoded | Failure:
        given = self.answers == "responses"
        responses = row.responses if given else (row.target,) if row.target else ()
        finish_reasons = row.finish_reasons if given else ()
        if not responses:
            return failure_of(row.prompt_id, f"no {self.answers}", "the row brings none")
        pairs = row.pairs if given else ()
        accepted = np.arange(len(responses), dtype=np.int32)
        if self.preferred and pairs:
            accepted, pairs = preferred_of(pairs), ()
            if not len(accepted):
                return failure_of(row.prompt_id, "no preferred response", "each was rejected for another one")
        try:
            prompt_ids = prompt_token_ids(self._tokenizer, row)
            token_ids = tuple(
                response_token_ids(self._tokenizer, row, text, reason != "length")
                for text, reason in zip_longest(responses, finish_reasons)
            )
        except DataError as error:
            return failure_of(row.prompt_id, "response cannot be encoded", error)
        fitting = fit(prompt_ids, token_ids, self._context)
        if not fitting:
            return failure_of(row.prompt_id, "group longer than the context", fitting.detail)
        return Encoded(
            prompt_id=row.prompt_id,
            prompt_token_ids=prompt_ids,
            responses=responses,
            token_ids=token_ids,
            accepted=accepted,
            pairs=pairs,
            rewards=row.rewards if given else np.full(len(responses), np.nan),
            finish_reasons=finish_reasons,
        )

    def count_tokens(self, rows: Sequence[Encoded]) -> int:
        """Prompt and response tokens."""
        return sum(len(ids) for row in rows for ids in (row.prompt_token_ids, *row.token_ids))

    def close(self) -> None:
        """Nothing outlives the worker."""


def preferred_of(pairs: Sequence[np.ndarray]) -> np.ndarray:
    """[k] int32, ascending: the responses that were chosen in a (chosen, rejected) pair and rejected in none."""
    chosen, rejected = np.stack(pairs).T
    return np.setdiff1d(chosen, rejected).astype(np.int32)


class EncodeTargetStage(EncodeStage):
    """The targets of prompts whose group is made elsewhere, for a loss that reads them (`answers`: "target")."""

    writes = EncodedTarget

    def _one(self, row: Prompt) -> EncodedTarget | Failure:
        found = super()._one(row)
        if isinstance(found, Failure):
            return found
        return EncodedTarget(prompt_id=row.prompt_id, target_token_ids=found.token_ids[0])

    def count_tokens(self, rows: Sequence[EncodedTarget]) -> int:
        """The targets' tokens."""
        return sum(len(row.target_token_ids) for row in rows)
