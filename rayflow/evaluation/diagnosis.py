"""What `rayflow diagnose` found, as plain frozen records: filled by `diagnose`, drawn by the report."""

from __future__ import annotations

import math
from dataclasses import dataclass


@dataclass(frozen=True)
class Interval:
    """A mean over prompts and its bootstrap interval."""

    mean: float
    low: float
    high: float


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What the real rule accepted from the sample's prompts, per prompt.

    Attributes:
        rounds: passes over the remaining candidates.
        distinct: different texts among the accepted.
        reward: mean reward of the accepted; at small beta below that of pi_beta, as nothing is drawn twice.
        tokens: mean length of the accepted.
    """

    rounds: Interval
    distinct: Interval
    reward: Interval
    tokens: Interval


@dataclass(frozen=True, kw_only=True)
class BetaPoint:
    """One beta. The first five are those of `importance.Estimate`, over all prompts.

    Attributes:
        trusted: whether the mean effective sample size reaches `Diagnosis.trusted_ess`.
        outcome: of the real rule.
    """

    beta: float
    reward: Interval
    gain: Interval
    kl: Interval
    ess: Interval
    acceptance: Interval
    trusted: bool
    outcome: Outcome


@dataclass(frozen=True, kw_only=True)
class CountPoint:
    """Best-of-N or top-k: its N or k, mean reward, gain over the mean of all, upper bound of the KL (nats)."""

    count: int
    reward: Interval
    gain: Interval
    kl_bound: float


@dataclass(frozen=True, kw_only=True)
class LengthCorrelation:
    """Correlation of reward with length in tokens, over the sample.

    Attributes:
        pearson_within, spearman_within: mean over prompts; NaN where no prompt has both in two values.
        pearson, spearman: over all responses together.
        num_prompts: prompts behind the first two.
    """

    pearson_within: Interval
    spearman_within: Interval
    pearson: float
    spearman: float
    num_prompts: int


@dataclass(frozen=True, kw_only=True)
class Diagnosis:
    """Everything `rayflow diagnose` found.

    Attributes:
        sft: the limit of large beta: all candidates count the same.
        points: finite values of beta, descending; 0 is the limit that takes the highest rewards.
        own_beta, own_kind, own_accepted: of the run's own selection; None, "" and None where it has no beta.
        recommended: the smallest beta of two digits whose KL estimate is within `kl_budget`; one of `points`.
        best_of: best-of-N for N = 1, 2, 4, ... and n.
        top_k: a random one of the k best of n, for k = n, ..., 4, 2, 1 and `num_accepted`.
        trusted_ess: see `importance.trusted_ess`.
        num_sampled: prompts in the sample.
        distinct_candidates: different texts among a prompt's n, mean over the sample.
    """

    num_prompts: int
    num_candidates: int
    num_accepted: int
    num_sampled: int
    kl_budget: float
    trusted_ess: float
    own_beta: float | None
    own_kind: str
    own_accepted: int | None
    recommended: float
    sft: BetaPoint
    points: tuple[BetaPoint, ...]
    best_of: tuple[CountPoint, ...]
    top_k: tuple[CountPoint, ...]
    length: LengthCorrelation
    distinct_candidates: float
    confidence: float

    @property
    def choice(self) -> BetaPoint:
        """The recommended point."""
        return next(point for point in self.points if point.beta == self.recommended)

    @property
    def max_kl(self) -> float:
        """log n nats, which no estimate exceeds."""
        return math.log(self.num_candidates)
