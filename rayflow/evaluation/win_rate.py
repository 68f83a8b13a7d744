"""Win rate of the policy against a baseline under a reward, with its interval.

Rows in: the scored samples of both models on the same held-out prompts. Row out: `Verdict`.
The prompt is the unit of the interval: samples of one prompt are not independent.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from rayflow.core import seeds, stats
from rayflow.core.evaluation_rows import Answered, Verdict
from rayflow.errors import DataError, RewardError


@dataclass(frozen=True, kw_only=True)
class WinRate:
    """The policy against the baseline over all held-out prompts.

    Attributes:
        win_rate: mean over prompts of the share of comparisons won, ties half, in [0, 1].
        low, high: percentile bootstrap interval over prompts.
        tie_rate: mean share of tied comparisons.
        num_prompts: prompts behind the numbers.
        policy_reward, baseline_reward: means over prompts, in units of the reward.
        policy_tokens, baseline_tokens: mean response lengths in tokens.
        confidence: of the interval.
        num_resamples: bootstrap resamples.
        num_decided: prompts on which one side is ahead; None in results of versions that did not count them.
    """

    win_rate: float
    low: float
    high: float
    tie_rate: float
    num_prompts: int
    policy_reward: float
    baseline_reward: float
    policy_tokens: float
    baseline_tokens: float
    confidence: float
    num_resamples: int
    num_decided: int | None = None

    @property
    def excludes_half(self) -> bool:
        """Whether the interval leaves out 50%, with enough prompts for that to mean something."""
        return stats.excludes_half(self.low, self.high, self.num_prompts, self.num_decided, self.confidence)


def compare(policy_rewards: np.ndarray, baseline_rewards: np.ndarray) -> tuple[float, float]:
    """Shares of all m * b comparisons of one prompt that the policy wins and ties.

    Args:
        policy_rewards: [m] float64, finite, m >= 1.
        baseline_rewards: [b] float64, finite, b >= 1.

    Returns:
        (win share with ties counted half, tie share), both in [0, 1].

    Raises:
        RewardError: a side is empty or holds a reward that is not finite.
    """
    policy, baseline = np.asarray(policy_rewards, np.float64), np.asarray(baseline_rewards, np.float64)
    for side, rewards in (("policy", policy), ("baseline", baseline)):
        if not rewards.size or not np.isfinite(rewards).all():
            raise RewardError(
                f"The {side}'s rewards cannot be compared: {rewards.tolist()}. "
                "Each side needs at least one response, and every reward must be finite."
            )
    wins = np.count_nonzero(policy[:, None] > baseline[None, :])
    ties = np.count_nonzero(policy[:, None] == baseline[None, :])
    comparisons = policy.size * baseline.size
    return (wins + ties / 2) / comparisons, ties / comparisons


def verdict(policy: Answered, baseline: Answered) -> Verdict:
    """The verdict on one prompt from both models' scored samples.

    Raises:
        DataError: the two rows are not of the same prompt.
        RewardError: see `compare`; the prompt is named.
    """
    if policy.prompt_id != baseline.prompt_id:
        raise DataError(
            f"Prompt {policy.prompt_id} of the policy was compared with prompt {baseline.prompt_id} of the "
            "baseline. Both models must answer the same held-out prompts."
        )
    try:
        win, tie = compare(policy.rewards, baseline.rewards)
    except RewardError as error:
        raise RewardError(f"Prompt {policy.prompt_id}: {error}") from error
    return Verdict(
        prompt_id=policy.prompt_id,
        win_rate=win,
        tie_rate=tie,
        policy_reward=float(np.mean(policy.rewards)),
        baseline_reward=float(np.mean(baseline.rewards)),
        policy_tokens=float(np.mean([len(ids) for ids in policy.token_ids])),
        baseline_tokens=float(np.mean([len(ids) for ids in baseline.token_ids])),
    )


def verdicts(policy: Sequence[Answered], baseline: Sequence[Answered]) -> list[Verdict]:
    """Verdicts on the prompts that both models answered, in the policy's order.

    A prompt that failed on one side has no verdict, which is what counting failures elsewhere relies on.

    Raises:
        DataError: no prompt is common to both.
    """
    by_id = {row.prompt_id: row for row in baseline}
    found = [verdict(row, by_id[row.prompt_id]) for row in policy if row.prompt_id in by_id]
    if not found:
        raise DataError(
            f"The {len(policy)} prompts of the policy and the {len(baseline)} of the baseline have none in "
            "common. Evaluate both models on the same held-out prompts."
        )
    return found


def win_rate(
    rows: Sequence[Verdict], *, seed: int = 0, num_resamples: int = 10_000, confidence: float = 0.95
) -> WinRate:
    """Mean win rate over prompts with a percentile bootstrap interval over prompts.

    Args:
        rows: one verdict per held-out prompt.
        seed: the run's seed; the resamples are a function of it alone.
        num_resamples: bootstrap resamples.
        confidence: of the interval, in (0, 1).

    Raises:
        DataError: there are no verdicts.

    Source:
        The proxy-reward win rate of RSO (arXiv:2309.06657, section 4), against model samples or targets.
    """
    if not rows:
        raise DataError("A win rate needs at least one verdict: no held-out prompt was judged.")
    shares = np.array([row.win_rate for row in rows])
    point, low, high = stats.bootstrap_mean(
        shares,
        seeds.rng(seed, "win_rate"),
        num_resamples=num_resamples,
        confidence=confidence,
    )

    def mean(column: str) -> float:
        return float(np.mean([getattr(row, column) for row in rows]))

    return WinRate(
        win_rate=point,
        low=low,
        high=high,
        tie_rate=mean("tie_rate"),
        num_prompts=len(rows),
        policy_reward=mean("policy_reward"),
        baseline_reward=mean("baseline_reward"),
        policy_tokens=mean("policy_tokens"),
        baseline_tokens=mean("baseline_tokens"),
        confidence=confidence,
        num_resamples=num_resamples,
        num_decided=stats.num_decided(shares),
    )
