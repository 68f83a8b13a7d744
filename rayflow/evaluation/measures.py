"""All numbers of an evaluation. Row in: rewards and texts of both sides by prompt. Out: `Measures`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from rayflow.core.evaluation_rows import Answered, Diversity
from rayflow.core.seeds import rng
from rayflow.core.stats import bootstrap_mean
from rayflow.errors import DataError
from rayflow.evaluation import pairwise
from rayflow.evaluation.divergence import Divergence
from rayflow.evaluation.length_control import LengthControlled, length_controlled
from rayflow.evaluation.side_by_side import SideBySide
from rayflow.evaluation.win_rate import WinRate


@dataclass(frozen=True)
class Interval:
    """A mean over prompts with its bootstrap interval."""

    mean: float
    low: float
    high: float


@dataclass(frozen=True, kw_only=True)
class Spread:
    """A distribution over responses: how many, mean, standard deviation, and five quantiles."""

    num: int
    mean: float
    deviation: float
    p5: float
    p25: float
    median: float
    p75: float
    p95: float


@dataclass(frozen=True, kw_only=True)
class RewardMeasure:
    """One reward's view of both sides.

    Attributes:
        win_rate: raw, ties half.
        length_controlled: what it would be at equal length.
        policy, baseline: the rewards.
        gain: by how much the policy's mean reward is higher.
    """

    win_rate: WinRate
    length_controlled: LengthControlled
    policy: Spread
    baseline: Spread
    gain: Interval


@dataclass(frozen=True, kw_only=True)
class DiversityMeasure:
    """How different a side's responses to one prompt are, means over prompts (see `Diversity`)."""

    distinct_1: Interval
    distinct_2: Interval
    distinct_3: Interval
    self_bleu: Interval
    num_prompts: int


@dataclass(frozen=True, kw_only=True)
class Measures:
    """Everything that an evaluation found; what was not asked for is empty or None.

    Attributes:
        rewards: by name, in the order of the configuration.
        diversity: by side, where it gave several responses to a prompt.
        kl: from the SFT policy.
        side_by_side: a judge's verdicts.
    """

    rewards: dict[str, RewardMeasure] = field(default_factory=dict)
    diversity: dict[str, DiversityMeasure] = field(default_factory=dict)
    kl: Divergence | None = None
    side_by_side: SideBySide | None = None


def reward_measure(
    answered: Sequence[tuple[Answered, Answered]],
    won: WinRate,
    *,
    preferred: Mapping[str, np.ndarray] | None = None,
    seed: int,
    num_resamples: int,
    confidence: float,
) -> RewardMeasure:
    """What a reward says of the prompts that both sides answered.

    Args:
        answered: (policy, baseline) rows with their rewards, at least one.
        won: the win rate over the same prompts.
        preferred: of a pairwise reward, by prompt_id the [m * b] probabilities that the policy's response of a pair is
            better; None: the higher reward wins.
        seed, num_resamples, confidence: of the intervals.
    """
    settings = {"num_resamples": num_resamples, "confidence": confidence}
    wins, differences, owners = [], [], []
    for index, (policy, baseline) in enumerate(answered):
        if preferred is None:
            wins.append((np.sign(np.subtract.outer(policy.rewards, baseline.rewards).ravel()) + 1) / 2)
        else:
            wins.append(pairwise.wins(preferred[policy.prompt_id]))
        lengths = [np.array([float(len(text)) for text in side.responses]) for side in (policy, baseline)]
        differences.append(np.subtract.outer(*lengths).ravel())
        owners.append(np.full(wins[-1].size, index))
    gains = np.array([policy.rewards.mean() - baseline.rewards.mean() for policy, baseline in answered])
    return RewardMeasure(
        win_rate=won,
        length_controlled=length_controlled(
            np.concatenate(wins), np.concatenate(differences), np.concatenate(owners), seed=seed, **settings
        ),
        policy=spread(np.concatenate([policy.rewards for policy, _ in answered])),
        baseline=spread(np.concatenate([baseline.rewards for _, baseline in answered])),
        gain=Interval(*bootstrap_mean(gains, rng(seed, "gain"), **settings)),
    )


def spread(values: np.ndarray) -> Spread:
    """A distribution in numbers, of values [n], n >= 1."""
    p5, p25, median, p75, p95 = (float(v) for v in np.quantile(values, [0.05, 0.25, 0.5, 0.75, 0.95]))
    return Spread(
        num=len(values),
        mean=float(values.mean()),
        deviation=float(values.std()),
        p5=p5,
        p25=p25,
        median=median,
        p75=p75,
        p95=p95,
    )


def diversity_measure(
    rows: Sequence[Diversity], *, seed: int, num_resamples: int, confidence: float
) -> DiversityMeasure:
    """Means over prompts; those without a value, such as a prompt whose responses are too short, do not count.

    Raises:
        DataError: there are no rows.
    """
    if not rows:
        raise DataError("Diversity needs at least one prompt with responses.")

    def interval(name: str) -> Interval:
        values = np.array([getattr(row, name) for row in rows])
        values = values[np.isfinite(values)]
        if not len(values):
            return Interval(np.nan, np.nan, np.nan)
        generator = rng(seed, "diversity", name)
        return Interval(
            *bootstrap_mean(values, generator, num_resamples=num_resamples, confidence=confidence)
        )

    names = ("distinct_1", "distinct_2", "distinct_3", "self_bleu")
    return DiversityMeasure(**{name: interval(name) for name in names}, num_prompts=len(rows))
