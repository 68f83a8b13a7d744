"""What people say of several systems' responses. Row in: `Rating`. Out: `HumanResult`.

Source of the form: RSO, arXiv:2309.06657, section 4: quality from 1 to 5 for each response, the best one or no
preference, three raters to a task; the mean rating and the majority vote are reported.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np

from rayflow.core.seeds import rng
from rayflow.core.stats import bootstrap_mean
from rayflow.errors import DataError
from rayflow.evaluation.agreement import krippendorff_alpha
from rayflow.evaluation.measures import Interval

NO_PREFERENCE = -1
NOT_GIVEN = -2
QUALITIES = (1, 2, 3, 4, 5)


@dataclass(frozen=True)
class Rating:
    """One rater on one task, with the systems in the key's order.

    Attributes:
        rater, task: who, and on what.
        quality: [k] float64, 1 to 5 for each system's response; NaN where not given.
        best: index of the best system, NO_PREFERENCE, or NOT_GIVEN.
    """

    rater: str
    task: str
    quality: np.ndarray
    best: int


@dataclass(frozen=True, kw_only=True)
class SystemResult:
    """One system.

    Attributes:
        name: its name.
        quality: mean over tasks of the raters' mean, with its bootstrap interval over tasks.
        num_ratings: ratings of its responses.
        counts: how often each quality from 1 to 5 was given.
        votes: share of all votes for the best that it got.
        majority: share of tasks on which it got more votes than any other answer.
    """

    name: str
    quality: Interval
    num_ratings: int
    counts: tuple[int, ...]
    votes: float
    majority: float


@dataclass(frozen=True, kw_only=True)
class PairResult:
    """Two systems by mean quality on the tasks that have both: shares of these, the first's win rate with ties half."""

    first: str
    second: str
    num_tasks: int
    win: float
    tie: float
    loss: float
    win_rate: Interval


@dataclass(frozen=True, kw_only=True)
class HumanResult:
    """All ratings together.

    Attributes:
        systems: in the key's order.
        pairs: every two of them.
        no_preference_votes: share of votes for none.
        no_preference: share of tasks on which most raters had no preference.
        no_majority: share of tasks on which two answers share the most votes.
        num_tasks, num_raters, num_ratings: that were rated; a rating is one rater on one task.
        num_voted: tasks with at least one vote.
        quality_agreement: Krippendorff's alpha, ordinal, over all responses; NaN where nothing can be said.
        best_agreement: the same, nominal, of the votes.
        confidence, num_resamples: of the intervals.
    """

    systems: tuple[SystemResult, ...]
    pairs: tuple[PairResult, ...]
    no_preference_votes: float
    no_preference: float
    no_majority: float
    num_tasks: int
    num_raters: int
    num_ratings: int
    num_voted: int
    quality_agreement: float
    best_agreement: float
    confidence: float
    num_resamples: int


def human_result(
    names: Sequence[str],
    ratings: Sequence[Rating],
    *,
    seed: int = 0,
    num_resamples: int = 10_000,
    confidence: float = 0.95,
) -> HumanResult:
    """Means, votes and agreement. A rating without a quality and without a vote, such as an empty line, is none.

    Raises:
        DataError: there are no ratings.
    """
    ratings = [each for each in ratings if np.isfinite(each.quality).any() or each.best != NOT_GIVEN]
    if not ratings:
        raise DataError("The files hold no ratings.")
    quality, best = _matrices(len(names), ratings)
    means, ballots = _mean_of_raters(quality), _Ballots.of(best)
    intervals = _Intervals(seed, num_resamples, confidence)
    return HumanResult(
        systems=tuple(
            _system(i, name, quality[..., i], means[:, i], ballots, intervals) for i, name in enumerate(names)
        ),
        pairs=tuple(
            _pair(names[i], names[j], means[:, i] - means[:, j], intervals)
            for i, j in combinations(range(len(names)), 2)
        ),
        no_preference_votes=ballots.votes_for(NO_PREFERENCE),
        no_preference=ballots.majority_for(NO_PREFERENCE),
        no_majority=ballots.majority_for(None),
        num_tasks=quality.shape[1],
        num_raters=quality.shape[0],
        num_ratings=len(ratings),
        num_voted=len(ballots.winners),
        quality_agreement=krippendorff_alpha(quality.reshape(len(quality), -1), "ordinal"),
        best_agreement=krippendorff_alpha(best, "nominal"),
        num_resamples=num_resamples,
        confidence=confidence,
    )


@dataclass(frozen=True)
class _Ballots:
    """The votes for the best.

    Attributes:
        votes: [v] float64, every answer of every rater: the index of a system, or NO_PREFERENCE.
        winners: of each task with a vote, the answer with the most of them; None where two have equally many.
    """

    votes: np.ndarray
    winners: tuple[int | None, ...]

    @classmethod
    def of(cls, best: np.ndarray) -> _Ballots:
        """Count [raters, tasks] answers, NaN where not given."""
        return cls(best[~np.isnan(best)], tuple(_majority(v) for v in best.T if not np.isnan(v).all()))

    def votes_for(self, answer: int) -> float:
        """Share of all votes."""
        return _share(self.votes == answer)

    def majority_for(self, answer: int | None) -> float:
        """Share of the tasks with a vote that this answer won; None: that nothing won."""
        return _share([winner == answer for winner in self.winners])


@dataclass(frozen=True)
class _Intervals:
    """Bootstrap intervals over tasks, each with random numbers of its own."""

    seed: int
    num_resamples: int
    confidence: float

    def of(self, values: np.ndarray, *name: str) -> Interval:
        """The mean of [tasks] values with its interval, without those that are NaN; `name` is what they are of."""
        values = values[np.isfinite(values)]
        if not len(values):
            return Interval(np.nan, np.nan, np.nan)
        settings = {"num_resamples": self.num_resamples, "confidence": self.confidence}
        return Interval(*bootstrap_mean(values, rng(self.seed, "human", *name), **settings))


def _matrices(num_systems: int, ratings: Sequence[Rating]) -> tuple[np.ndarray, np.ndarray]:
    """Quality [raters, tasks, systems] and best [raters, tasks], NaN where not given."""
    tasks = {name: i for i, name in enumerate(dict.fromkeys(rating.task for rating in ratings))}
    raters = {name: i for i, name in enumerate(dict.fromkeys(rating.rater for rating in ratings))}
    quality = np.full((len(raters), len(tasks), num_systems), np.nan)
    best = np.full((len(raters), len(tasks)), np.nan)
    for rating in ratings:
        where = raters[rating.rater], tasks[rating.task]
        quality[where] = rating.quality
        if rating.best != NOT_GIVEN:
            best[where] = rating.best
    return quality, best


def _majority(votes: np.ndarray) -> int | None:
    """The answer with the most votes; None where two have equally many."""
    counts = Counter(votes[~np.isnan(votes)].astype(int).tolist()).most_common(2)
    return None if len(counts) == 2 and counts[0][1] == counts[1][1] else counts[0][0]


def _mean_of_raters(quality: np.ndarray) -> np.ndarray:
    """[tasks, systems] mean over the raters who gave one; NaN where none did."""
    told = np.isfinite(quality)
    with np.errstate(invalid="ignore"):
        return np.where(told, quality, 0.0).sum(axis=0) / told.sum(axis=0)


def _system(
    index: int, name: str, quality: np.ndarray, means: np.ndarray, ballots: _Ballots, intervals: _Intervals
) -> SystemResult:
    """From its quality [raters, tasks], and the raters' means [tasks] of it."""
    return SystemResult(
        name=name,
        quality=intervals.of(means, name),
        num_ratings=int(np.isfinite(quality).sum()),
        counts=tuple(int((quality == value).sum()) for value in QUALITIES),
        votes=ballots.votes_for(index),
        majority=ballots.majority_for(index),
    )


def _pair(first: str, second: str, differences: np.ndarray, intervals: _Intervals) -> PairResult:
    sign = np.sign(np.round(differences[np.isfinite(differences)], 9))
    return PairResult(
        first=first,
        second=second,
        num_tasks=len(sign),
        win=_share(sign > 0),
        tie=_share(sign == 0),
        loss=_share(sign < 0),
        win_rate=intervals.of((sign + 1) / 2, first, second),
    )


def _share(hits: object) -> float:
    values = np.asarray(hits, dtype=np.float64)
    return float(values.mean()) if len(values) else float("nan")
