"""Pair: labelled preference pairs of the accepted. Row in: accepted, rewards. Row out: `PreferencePairs`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from rayflow.config import PoolOptions
from rayflow.core.options import KindOptions, build
from rayflow.core.rows import Failure, OrderedPairs, PreferencePairs, Responses, Row, Scores
from rayflow.core.seeds import rng
from rayflow.core.stats import logit
from rayflow.errors import DataError, RewardError, StageError
from rayflow.pairing.base import Prefer
from rayflow.pairing.labels import by_reward
from rayflow.pipeline.artifact import Artifact
from rayflow.pipeline.stage import SimpleStage, row_failure
from rayflow.rewards.base import PairwiseReward, close_reward, judged, reads_orders

NO_PAIRS = (
    "There is no preference pair to train on: every group's accepted responses are tied or too few. "
    "Look at the rewards (do they differ within a prompt?), raise select.num_accepted, or set pair.ties."
)


@dataclass(frozen=True, kw_only=True)
class AcceptedOnly(Row):
    """View: what pairing reads where there are no rewards."""

    accepted: np.ndarray


@dataclass(frozen=True, kw_only=True)
class AcceptedScores(AcceptedOnly, Scores):
    """View: what pairing by stored rewards reads."""


@dataclass(frozen=True, kw_only=True)
class AcceptedResponses(Responses, AcceptedOnly):
    """View: what pairing with a pairwise reward reads where there are no rewards."""


@dataclass(frozen=True, kw_only=True)
class AcceptedScoredResponses(AcceptedResponses, Scores):
    """View: what it reads where there are."""


@dataclass
class PairStage(SimpleStage):
    """Applies the pairing rule to each prompt with the prompt's own generator.

    Attributes:
        ranker: a pairwise reward, which each worker then holds and asks for every label; None: labels follow
            from the stored rewards.
        scored: whether the candidates have rewards; the rule gets none if not.
        needed: whether the loss learns from pairs alone; not part of what the pairs are.
    """

    name: str
    inputs: tuple[str, ...]
    options: KindOptions
    seed: int
    pool: PoolOptions
    ranker: KindOptions | None = None
    scored: bool = True
    needed: bool = False

    @property
    def writes(self) -> type[Row]:
        """With both orders' judgements where a ranker tells them."""
        ordered = self.ranker is not None and reads_orders(build("reward", self.ranker))
        return OrderedPairs if ordered else PreferencePairs

    @property
    def actor(self) -> bool:
        """Whether there is a model to keep."""
        return self.ranker is not None

    @property
    def reads(self) -> type[Row]:
        """A pairwise reward reads texts; rewards are read where there are any."""
        if self.ranker is None:
            return AcceptedScores if self.scored else AcceptedOnly
        return AcceptedScoredResponses if self.scored else AcceptedResponses

    @property
    def models(self) -> tuple[str, ...]:
        """The ranker's."""
        return () if self.ranker is None else build("reward", self.ranker).models

    def identity(self) -> dict[str, Any]:
        """The rule, its settings, the seed, and who labels."""
        labels = {} if self.ranker is None else {"labels": self.ranker.identity()}
        return {"pair": self.options.identity(), "seed": self.seed, **labels}

    def setup(self) -> None:
        """Build the rule; load the ranker."""
        self._rule = build("pairing", self.options)
        self._ranker: PairwiseReward | None = None
        if self.ranker is not None:
            self._ranker = build("reward", self.ranker)
            self._ranker.setup()

    async def process(self, rows: Sequence[Any]) -> Sequence[PreferencePairs | Failure]:
        """Pairs of each prompt; none at all (everything tied) leaves a group without pairs, not a failure."""
        return [self._one(row) for row in rows]

    def _one(self, row: Any) -> PreferencePairs | Failure:
        verdicts = None if self._ranker is None else Verdicts(self._ranker, row)
        rewards = row.rewards if self.scored else np.empty(0)
        prefer: Prefer = (
            by_reward(rewards, getattr(self.options, "temperature", 0.0)) if verdicts is None else verdicts
        )
        try:
            pairs = self._rule.pair(row.accepted, rewards, rng(self.seed, "pair", row.prompt_id), prefer)
            pairs = _checked(pairs, row.accepted)
        except Exception as error:
            parts = (self._rule, self._ranker)
            return row_failure(row.prompt_id, "label failed", error, parts, RewardError, DataError)
        margins = None if verdicts is None else verdicts.margins(pairs)
        source = "reward" if margins is None else "ranker"
        if margins is None:
            margins = (
                rewards[pairs[:, 0]] - rewards[pairs[:, 1]] if self.scored else np.full(len(pairs), np.nan)
            )
        columns = {"pairs": tuple(pairs), "label_source": source, "margins": margins}
        if verdicts is not None and verdicts.orders:
            return OrderedPairs(prompt_id=row.prompt_id, **columns, **verdicts.orders)
        return PreferencePairs(prompt_id=row.prompt_id, **columns)

    def check_all(self, artifact: Artifact) -> None:
        """Stop where nothing was paired and the loss has nothing else: the reference would be computed for nothing.

        Raises:
            StageError: what to look at.
        """
        if not self.needed or not artifact.committed:
            return
        shards = (artifact.shards.read(index, ("pairs",)) for index in range(artifact.num_shards))
        if not any(len(pairs) for shard in shards for pairs in shard["pairs"].to_pylist()):
            raise StageError(f"{NO_PAIRS} Nothing after {artifact.folder} was computed.")

    def close(self) -> None:
        """End what the ranker has started, and drop its model."""
        close_reward(self._ranker)
        self._ranker = None


def _checked(pairs: Any, accepted: np.ndarray) -> np.ndarray:
    """[p, 2] int32, two different accepted candidates each.

    Raises:
        DataError: a rule of someone's own made others, such as places among the accepted.
    """
    made = np.asarray(pairs).reshape(-1, 2) if np.size(pairs) else np.empty((0, 2), np.int32)
    if not np.isin(made, accepted).all():
        raise DataError(
            f"the pairing rule made the pairs {made.tolist()!r:.200}, and accepted are the candidates "
            f"{accepted.tolist()!r:.200}: a pair is two of these numbers, not two places among them"
        )
    if (made[:, 0] == made[:, 1]).any():
        raise DataError(f"the pairing rule paired a candidate with itself: {made.tolist()!r:.200}")
    return made.astype(np.int32)


class Verdicts:
    """A pairwise reward's judgements on one prompt's candidates, kept for the margins."""

    def __init__(self, ranker: PairwiseReward, row: AcceptedResponses) -> None:
        self._ranker = ranker
        self._row = row
        self._found: dict[tuple[int, int], float] = {}
        self._orders: list[np.ndarray] = []

    def __call__(self, pairs: np.ndarray) -> np.ndarray:
        """Probability that the first of each pair [p, 2] is better: [p] float64 (see `pairing.base.Prefer`).

        Raises:
            RewardError: the ranker failed.
        """
        found = judged(self._ranker, self._row, self._row.responses, pairs, self._row.cut)
        self._found |= zip(map(tuple, pairs.tolist()), logit(found.values).tolist(), strict=True)
        self._orders.append(found.orders)
        return found.values

    @property
    def orders(self) -> dict[str, np.ndarray]:
        """The columns of `Orders`; none for a reward that does not tell the order."""
        if not reads_orders(self._ranker):
            return {}
        first, second = np.concatenate([np.empty((0, 2)), *self._orders]).T
        return {"shown_first": first, "shown_second": second}

    def margins(self, pairs: np.ndarray) -> np.ndarray | None:
        """Log-odds [p] float64 of the pairs as labelled; None if the rule asked nothing about one of them."""
        margins = []
        for chosen, rejected in pairs.tolist():
            if (chosen, rejected) in self._found:
                margins.append(self._found[chosen, rejected])
            elif (rejected, chosen) in self._found:
                margins.append(-self._found[rejected, chosen])
            else:
                return None
        return np.array(margins, dtype=np.float64)
