"""Reference: frozen-policy log-probs of the accepted. Row in: token ids, accepted. Row out: `Reference`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from rayflow.config import PoolOptions, ReferenceOptions
from rayflow.core.rows import Failure, Reference, Row
from rayflow.errors import DataError
from rayflow.pipeline.stage import failure_of


@dataclass(frozen=True, kw_only=True)
class AcceptedTokens(Row):
    """View: what the reference pass reads. Texts and rewards stay on disk."""

    prompt_token_ids: np.ndarray
    token_ids: tuple[np.ndarray, ...]
    accepted: np.ndarray


@dataclass
class ReferenceStage:
    """Holds the frozen model; every prompt is computed once for all of its accepted responses."""

    name: str
    inputs: tuple[str, ...]
    model: str
    options: ReferenceOptions
    pool: PoolOptions

    reads = AcceptedTokens
    writes = Reference
    actor = True

    @property
    def models(self) -> tuple[str, ...]:
        """The reference policy."""
        return (self.model,)

    def identity(self) -> dict[str, Any]:
        """The precision; how many tokens go through at once changes nothing."""
        return {"precision": self.options.precision}

    def setup(self) -> None:
        """Load the model."""
        from rayflow.training.reference import ReferenceScorer

        self._scorer = ReferenceScorer(self.model, self.options.precision, self.options.batch_tokens)
        self._scorer.setup()
        self._tokens = 0

    async def process(self, rows: Sequence[AcceptedTokens]) -> Sequence[Reference | Failure]:
        """The whole shard at once; only if that cannot be, group by group, to find the one to blame."""
        groups = [(row.prompt_token_ids, tuple(row.token_ids[i] for i in row.accepted)) for row in rows]
        self._tokens = sum(len(ids) for prompt, responses in groups for ids in (prompt, *responses))
        try:
            return [
                Reference(prompt_id=row.prompt_id, ref_logprobs=values)
                for row, values in zip(rows, self._scorer.score(groups), strict=True)
            ]
        except DataError:
            return [self._alone(row, group) for row, group in zip(rows, groups, strict=True)]

    def _alone(self, row: AcceptedTokens, group: Any) -> Reference | Failure:
        try:
            return Reference(prompt_id=row.prompt_id, ref_logprobs=self._scorer.score([group])[0])
        except DataError as error:
            return failure_of(row.prompt_id, "group longer than the context", error)

    def count_tokens(self, rows: Sequence[Reference]) -> int:
        """Prompt and response tokens of the last shard."""
        return self._tokens

    def close(self) -> None:
        """Drop the model."""
        self._scorer = None
