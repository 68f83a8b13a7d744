"""Select: which candidates go on. Row in: their rewards (and texts, if the rule asks). Row out: `Accepted`."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from rayflow.config import PoolOptions
from rayflow.core.options import KindOptions, build
from rayflow.core.rows import Accepted, Failure, Row, Scores
from rayflow.core.seeds import derive
from rayflow.pipeline.artifact import Artifact
from rayflow.pipeline.stage import SimpleStage, failure_of, row_failure

NOTHING = "nothing accepted"


@dataclass(frozen=True, kw_only=True)
class Drawn(Row):
    """View: candidates without rewards, of which only the number is looked at."""

    logprobs: np.ndarray

    @property
    def rewards(self) -> np.ndarray:
        """Zeros [n] float64, for a rule that uses none."""
        return np.zeros(len(self.logprobs))


@dataclass(frozen=True, kw_only=True)
class ScoredTexts(Scores):
    """View: what a rule reads for which equal texts matter."""

    responses: tuple[str, ...]


@dataclass
class SelectStage(SimpleStage):
    """Applies the selection rule to the prompts of a shard together, each with a seed of its own.

    `inputs` end with the stage that scores; those before it hold the texts, and are left out unless the rule
    needs them. If they hold no rewards (`scored` is False), the rule sees zeros.

    Attributes:
        range_at: folder of the stage that measures the range of all rewards, for a rule that needs it.
    """

    name: str
    inputs: tuple[str, ...]
    options: KindOptions
    seed: int
    pool: PoolOptions
    scored: bool = True
    range_at: Path | None = None

    writes = Accepted

    def __post_init__(self) -> None:
        needs_keys = getattr(build("selection", self.options), "needs_keys", False)
        self.reads = ScoredTexts if needs_keys else Scores if self.scored else Drawn
        columns = self.inputs if needs_keys else self.inputs[-1:]
        self.inputs = (*columns, *(("range",) if self.range_at else ()))

    def identity(self) -> dict[str, Any]:
        """The rule, its settings, and the seed where it draws."""
        draws = getattr(build("selection", self.options), "draws", True)
        return {"select": self.options.identity(), **({"seed": self.seed} if draws else {})}

    async def process(self, rows: Sequence[Scores]) -> Sequence[Accepted | Failure]:
        """See `outcomes`."""
        return self.outcomes(rows)

    def outcomes(self, rows: Sequence[Scores]) -> list[Accepted | Failure]:
        """One decision per prompt; an empty one is a failure, since nothing could follow from it."""
        selector = build("selection", self._measured())
        outcomes: dict[int, Accepted | Failure] = {}
        for places in groups_of_equal_size(rows):
            chosen = [rows[i] for i in places]
            outcomes |= zip(places, self._select(selector, chosen), strict=True)
        return [outcomes[i] for i in range(len(rows))]

    def _measured(self) -> KindOptions:
        """The rule's settings, with the range of the run's rewards where it needs that."""
        if self.range_at is None:
            return self.options
        extra = Artifact(self.range_at).manifest().extra
        return self.options.model_copy(update={name: extra[name] for name in ("low", "high")})

    def _select(self, selector: Any, rows: Sequence[Scores]) -> list[Accepted | Failure]:
        """Outcomes of rows with equally many candidates."""
        rewards = np.stack([row.rewards for row in rows])
        finite = np.isfinite(rewards).all(axis=1) if rewards.size else np.zeros(len(rows), bool)
        good = iter(self._decide(selector, [row for row, ok in zip(rows, finite, strict=True) if ok]))
        return [next(good) if ok else unusable(row) for row, ok in zip(rows, finite, strict=True)]

    def _decide(self, selector: Any, rows: Sequence[Scores]) -> list[Accepted | Failure]:
        if not rows:
            return []
        seeds = [derive(self.seed, "select", row.prompt_id) for row in rows]
        columns = [np.stack([row.rewards for row in rows]), np.array(seeds, np.uint64)]
        if self.reads is ScoredTexts:
            # A further draw that could not be scored has texts, and no rewards.
            scored = (row.responses[: len(row.rewards)] for row in rows)
            columns.append(np.array([text_keys(texts) for texts in scored], np.int64))
        try:
            chosen = selector.select(*columns)
        except Exception as error:
            if len(rows) == 1:
                return [row_failure(rows[0].prompt_id, "selection failed", error, (selector,), ValueError)]
            # Rows are independent, so one by one the others come out as they would have.
            return [outcome for row in rows for outcome in self._decide(selector, [row])]
        numbers = (chosen.num_rounds.tolist(), chosen.num_visits.tolist())
        parts = zip(rows, chosen.per_prompt(), *numbers, strict=True)
        return [self._outcome(row, *part) for row, *part in parts]

    def _outcome(self, row: Scores, accepted: np.ndarray, rounds: int, visits: int) -> Accepted | Failure:
        if not len(accepted):
            return failure_of(row.prompt_id, NOTHING, f"of {len(row.rewards)} candidates")
        if len(accepted) < self._wanted and getattr(self.options, "shortfall", "keep") == "skip":
            detail = f"{len(accepted)} of {self._wanted}, from {len(row.rewards)} candidates"
            return failure_of(row.prompt_id, "fewer accepted than asked for", detail)
        return Accepted(
            prompt_id=row.prompt_id,
            accepted=accepted,
            num_rounds=rounds,
            acceptance_rate=len(accepted) / max(1, visits),
        )

    @property
    def _wanted(self) -> int:
        return getattr(self.options, "num_accepted", 1)

    def is_short(self, outcome: Accepted | Failure) -> bool:
        """Whether more candidates could mend an outcome."""
        if isinstance(outcome, Failure):
            return outcome.reason == NOTHING
        return len(outcome.accepted) < self._wanted


def groups_of_equal_size(rows: Sequence[Scores]) -> Iterator[list[int]]:
    """Positions of the rows that have equally many candidates, so that their rewards form one array."""
    groups: dict[int, list[int]] = {}
    for position, row in enumerate(rows):
        groups.setdefault(len(row.rewards), []).append(position)
    yield from groups.values()


def unusable(row: Scores) -> Failure:
    """Why a row cannot be decided: no candidate, or a reward that is not a number."""
    bad = np.flatnonzero(~np.isfinite(row.rewards))
    if not bad.size:
        return failure_of(row.prompt_id, NOTHING, "of 0 candidates")
    detail = f"{row.rewards[bad[0]]} for candidate {bad[0]} ({bad.size} of {len(row.rewards)} not finite)"
    return failure_of(row.prompt_id, "reward is not finite", detail)


def text_keys(responses: Sequence[str]) -> list[int]:
    """A number per candidate: the place where its text comes first, so equal exactly where texts are."""
    first: dict[str, int] = {}
    return [first.setdefault(text, place) for place, text in enumerate(responses)]
