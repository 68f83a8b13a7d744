"""Log-probabilities: a model's own pass over sampled responses. Row in: token ids. Row out: `ExactLogprobs`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from rayflow.config import PoolOptions
from rayflow.config.evaluate import DivergenceOptions
from rayflow.core.evaluation_rows import ExactLogprobs
from rayflow.core.model_folder import load_tokenizer
from rayflow.core.rows import Failure, Row
from rayflow.errors import DataError, ModelError
from rayflow.pipeline.stage import failure_of


@dataclass(frozen=True, kw_only=True)
class Tokens(Row):
    """View: what the pass reads."""

    prompt_token_ids: np.ndarray
    token_ids: tuple[np.ndarray, ...]


@dataclass
class LogprobStage:
    """Holds one model; every prompt is computed once for all of its responses.

    Two models are compared by two such stages, so that both numbers come from the same computation and its rounding:
    an engine's own log-probabilities would add the difference between two programs to that of two models.

    Attributes:
        sampler: the model that drew the responses; the two must have the same tokens.
    """

    name: str
    inputs: tuple[str]
    model: str
    options: DivergenceOptions
    pool: PoolOptions
    sampler: str

    reads = Tokens
    writes = ExactLogprobs
    actor = True

    @property
    def models(self) -> tuple[str, ...]:
        """The model."""
        return (self.model,)

    def identity(self) -> dict[str, Any]:
        """The precision; how many tokens go through at once changes nothing."""
        return {"precision": self.options.precision}

    def setup(self) -> None:
        """Load the model.

        Raises:
            ModelError: its tokens are not those of the sampler.
        """
        from rayflow.training.reference import ReferenceScorer

        vocabularies = [load_tokenizer(model).get_vocab() for model in {self.model, self.sampler}]
        if any(each != vocabularies[0] for each in vocabularies):
            raise ModelError(
                f"{self.sampler} and {self.model} have different tokens, so the divergence between them cannot be "
                "measured token by token. Leave it out with kl: null."
            )
        self._scorer = ReferenceScorer(self.model, self.options.precision, self.options.batch_tokens)
        self._scorer.setup()

    async def process(self, rows: Sequence[Tokens]) -> Sequence[ExactLogprobs | Failure]:
        """All rows at once; only if that cannot be, row by row, to find the one to blame."""
        groups = [(row.prompt_token_ids, row.token_ids) for row in rows]
        self._tokens = sum(len(ids) for prompt, responses in groups for ids in (prompt, *responses))
        try:
            found = self._scorer.score(groups)
        except DataError:
            return [self._alone(row, group) for row, group in zip(rows, groups, strict=True)]
        return [_row(row, values) for row, values in zip(rows, found, strict=True)]

    def _alone(self, row: Tokens, group: Any) -> ExactLogprobs | Failure:
        try:
            return _row(row, self._scorer.score([group])[0])
        except DataError as error:
            return failure_of(row.prompt_id, "group longer than the context", error)

    def count_tokens(self, rows: Sequence[ExactLogprobs]) -> int:
        """Prompt and response tokens of the last shard."""
        return self._tokens

    def close(self) -> None:
        """Drop the model."""
        self._scorer = None


def _row(row: Tokens, values: np.ndarray) -> ExactLogprobs:
    return ExactLogprobs(prompt_id=row.prompt_id, exact_logprobs=values)
