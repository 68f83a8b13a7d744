"""Reference: frozen-policy log-probs of the accepted. Row in: token ids, accepted. Row out: `Reference`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from rayflow.config import PoolOptions, ReferenceOptions
from rayflow.core.rows import Failure, Reference, Row
from rayflow.core.seeds import derive
from rayflow.errors import DataError
from rayflow.pipeline.stage import failure_of


@dataclass(frozen=True, kw_only=True)
class AcceptedTokens(Row):
    """View: what the reference pass reads. Texts and rewards stay on disk."""

    prompt_token_ids: np.ndarray
    token_ids: tuple[np.ndarray, ...]
    accepted: np.ndarray


@dataclass(frozen=True, kw_only=True)
class SampledTokens(AcceptedTokens):
    """View: the same with what the sampler knows of its own responses."""

    logprobs: np.ndarray


@dataclass(frozen=True, kw_only=True)
class PairedTokens(AcceptedTokens):
    """View: the same as `AcceptedTokens` with the pairs."""

    pairs: tuple[np.ndarray, ...]


@dataclass(frozen=True, kw_only=True)
class SampledPairedTokens(SampledTokens, PairedTokens):
    """View: with both."""


_VIEWS = {
    (False, False): AcceptedTokens,
    (False, True): PairedTokens,
    (True, False): SampledTokens,
    (True, True): SampledPairedTokens,
}
"""By whether the sampler's log-probabilities are there, and whether only responses in pairs count."""


def places_in_pairs(row: PairedTokens) -> np.ndarray:
    """Which of the accepted responses occur in a pair: places [j] int64 in `accepted`, ascending."""
    return np.flatnonzero(np.isin(row.accepted, np.concatenate([np.empty(0, np.int32), *row.pairs])))


@dataclass
class ReferenceStage:
    """Holds the frozen model; every prompt is computed once for all of its responses that count.

    Attributes:
        sampled: the responses come with the sampler's log-probabilities, to take over or to compare with.
        paired: only responses that occur in a pair count; the others' values stay NaN.
    """

    name: str
    inputs: tuple[str, ...]
    model: str
    options: ReferenceOptions
    sampled: bool
    seed: int
    pool: PoolOptions
    paired: bool = False

    writes = Reference
    actor = True

    @property
    def reads(self) -> type[Row]:
        """The responses' tokens, and what else is there and looked at."""
        return _VIEWS[self.sampled, self.paired]

    @property
    def models(self) -> tuple[str, ...]:
        """The reference policy."""
        return (self.model,)

    def identity(self) -> dict[str, Any]:
        """Where the numbers come from; how many tokens go through at once changes nothing."""
        options = self.options
        given: dict[str, Any] = {
            "precision": options.precision,
            "source": options.source,
            "paired": self.paired,
        }
        if self.options.source == "sampler":
            given |= {"check_fraction": self.options.check_fraction, "seed": self.seed}
        return given

    def setup(self) -> None:
        """Nothing yet: under "sampler" most workers never need the model."""
        self._scorer: Any = None

    async def process(self, rows: Sequence[Any]) -> Sequence[Reference | Failure]:
        """The reference's log-probabilities, recomputed or the sampler's; the difference where both are known."""
        checked = [row for row in rows if self._is_recomputed(row.prompt_id)]
        values = dict(zip((row.prompt_id for row in checked), self._recompute(checked), strict=True))
        return [self._one(row, values.get(row.prompt_id)) for row in rows]

    def _is_recomputed(self, prompt_id: str) -> bool:
        share = derive(self.seed, "reference", prompt_id) / 2**63
        return self.options.source == "recompute" or share < self.options.check_fraction

    def _one(self, row: Any, recomputed: np.ndarray | Failure | None) -> Reference | Failure:
        if isinstance(recomputed, Failure):
            return recomputed
        nothing = np.full(len(row.accepted), np.nan, np.float32)
        known = row.logprobs[row.accepted] if self.sampled else nothing
        values = nothing.copy()
        if recomputed is not None:
            values[self._counted(row)] = recomputed
        used = known if self.options.source == "sampler" else values
        return Reference(prompt_id=row.prompt_id, ref_logprobs=used, sampler_differences=values - known)

    def _counted(self, row: Any) -> np.ndarray:
        """Places in `accepted` of the responses that count."""
        return places_in_pairs(row) if self.paired else np.arange(len(row.accepted))

    def _recompute(self, rows: Sequence[AcceptedTokens]) -> list[np.ndarray | Failure]:
        """All rows at once; only if that cannot be, group by group, to find the one to blame."""
        counted = [row.accepted[self._counted(row)] for row in rows]
        groups = [
            (row.prompt_token_ids, tuple(row.token_ids[i] for i in own))
            for row, own in zip(rows, counted, strict=True)
        ]
        self._tokens = sum(len(ids) for prompt, responses in groups for ids in (prompt, *responses))
        if not rows:
            return []
        scorer = self._loaded()
        try:
            return scorer.score(groups)
        except DataError:
            return [self._alone(row, group) for row, group in zip(rows, groups, strict=True)]

    def _alone(self, row: AcceptedTokens, group: Any) -> np.ndarray | Failure:
        try:
            return self._scorer.score([group])[0]
        except DataError as error:
            return failure_of(row.prompt_id, "group longer than the context", error)

    def _loaded(self) -> Any:
        if self._scorer is None:
            from rayflow.training.reference import ReferenceScorer

            scorer = ReferenceScorer(self.model, self.options.precision, self.options.batch_tokens)
            scorer.setup()
            self._scorer = scorer
        return self._scorer

    def count_tokens(self, rows: Sequence[Reference]) -> int:
        """Prompt and response tokens of the last shard."""
        return self._tokens

    def close(self) -> None:
        """Drop the model."""
        self._scorer = None
