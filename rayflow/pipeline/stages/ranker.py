"""What a pairwise ranker learns from: pairs as texts. Row in: `Example`. Row out: `Comparisons`."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from rayflow.config import PoolOptions
from rayflow.core.chat import fit
from rayflow.core.comparison import comparison_token_ids, letter_ids
from rayflow.core.given_rows import Comparisons, Example
from rayflow.core.ids import pair_id
from rayflow.core.model_folder import context_length, load_tokenizer
from rayflow.core.rows import Failure
from rayflow.losses.base import Needs
from rayflow.pipeline.artifact import Artifact
from rayflow.pipeline.stage import failure_of, read_rows
from rayflow.pipeline.stages.train import TrainStage

if TYPE_CHECKING:
    from rayflow.training.groups import TrainingGroup


@dataclass
class RankerEncodeStage:
    """Writes each pair in both orders; training draws one for each epoch."""

    name: str
    inputs: tuple[str, ...]
    model: str
    pool: PoolOptions

    reads = Example
    writes = Comparisons
    actor = True

    @property
    def models(self) -> tuple[str, ...]:
        """The model, whose tokenizer is used."""
        return (self.model,)

    def identity(self) -> dict[str, Any]:
        """The orders."""
        return {"orders": 2}

    def setup(self) -> None:
        """Load the tokenizer, and look up how long a text may be."""
        self._tokenizer = load_tokenizer(self.model)
        self._letters = letter_ids(self._tokenizer)
        self._context = context_length(self.model)

    async def process(self, rows: Sequence[Example]) -> Sequence[Comparisons | Failure]:
        """Row by row; one with a text that does not fit the model is a failure, and nothing is cut."""
        return [self._one(row) for row in rows]

    def _one(self, row: Example) -> Comparisons | Failure:
        texts = []
        for chosen, rejected in row.pairs:
            for first, second in ((chosen, rejected), (rejected, chosen)):
                shown = row.responses[first], row.responses[second]
                texts.append(comparison_token_ids(self._tokenizer, row.text, *shown))
        fitting = fit(max(texts, key=len), [self._letters[:1]], self._context)
        if not fitting:
            return failure_of(row.prompt_id, "comparison longer than the context", fitting.detail)
        return Comparisons(
            prompt_id=row.prompt_id,
            pairs=row.pairs,
            comparison_token_ids=tuple(texts),
            letters=np.array(self._letters * len(row.pairs), dtype=np.int32),
        )

    def count_tokens(self, rows: Sequence[Comparisons]) -> int:
        """Tokens of all texts, the letter included."""
        return sum(len(ids) + 1 for row in rows for ids in row.comparison_token_ids)

    def close(self) -> None:
        """Nothing outlives the worker."""


class RankerTrainStage(TrainStage):
    """Trains a language model to continue each text with its letter: a group is a text with a one-token response.

    Each epoch shows each pair in an order drawn anew, so that no ranker learns to prefer a place.

    Source: RSO (arXiv:2309.06657) section 3.3: pairs and labels are flipped at random.
    """

    orders = 2

    def training_groups(self, sources: list[Artifact], wanted: Needs) -> Iterator[TrainingGroup]:
        """Two groups per pair, one for each order, one shard in memory at a time."""
        from rayflow.training.groups import TrainingGroup

        for index in range(sources[-1].num_shards):
            for row in read_rows(sources, index, Comparisons):
                shown = [pair for pair in row.pairs for _ in range(self.orders)]
                for pair, text, letter in zip(shown, row.comparison_token_ids, row.letters, strict=True):
                    yield TrainingGroup(
                        prompt_id=pair_id(row.prompt_id, *pair.tolist()),
                        prompt_token_ids=text,
                        response_token_ids=(np.array([letter], dtype=np.int32),),
                        rewards=np.full(1, np.nan),
                        ref_logprobs=np.full(1, np.nan, dtype=np.float32),
                        pairs=np.zeros((0, 2), dtype=np.int32),
                    )
