"""The verdict of a pairwise reward on one held-out prompt.

Row in: the probabilities that each response of the policy beats each one of the baseline. Row out:
`ComparedVerdict`.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from rayflow.core.evaluation_rows import Answers, ComparedVerdict
from rayflow.core.rows import Responses
from rayflow.core.stats import logit
from rayflow.rewards.base import PairwiseReward, preferences

TIE = 1e-6
"""A probability this close to one half is a tie."""


def compare_all(
    reward: PairwiseReward,
    baseline: Responses,
    responses: Sequence[str],
    cut: np.ndarray,
) -> np.ndarray:
    """Every response of the policy against every one of the baseline, in one call.

    Args:
        reward: who judges.
        baseline: the prompt with the b responses of the baseline.
        responses: the policy's, m texts.
        cut: [m] bool, which of these a sampler cut at max_tokens.

    Returns:
        [m, b] float64 in (0, 1), the probability that the policy's is better.

    Raises:
        RewardError: see `rewards.base.preferences`.
    """
    m, b = len(responses), len(baseline.responses)
    pairs = np.stack([np.repeat(np.arange(m), b), np.tile(np.arange(m, m + b), m)], axis=1)
    texts, cuts = (*responses, *baseline.responses), np.concatenate([cut, baseline.cut])
    return preferences(reward, baseline, texts, pairs, cuts).reshape(m, b)


def wins(preferred: np.ndarray) -> np.ndarray:
    """1 where a probability is above one half, 0 where it is below, 1/2 for a tie; of the same shape."""
    return np.where(np.abs(preferred - 0.5) < TIE, 0.5, (preferred > 0.5).astype(np.float64))


def compared_verdict(policy: Answers, baseline: Answers, preferred: np.ndarray) -> ComparedVerdict:
    """The share of comparisons won, ties half, and rewards on a common scale.

    If preferences were Bradley-Terry, the log-odds of pair (i, j) would be r_i - r_j. The rewards here are
    the least-squares fit of that form, with the zero at the baseline's mean: a policy's response has its mean
    log-odds against the baseline, a baseline's response the mean of all log-odds less its own.

    Args:
        policy, baseline: m and b responses to the same prompt.
        preferred: [m, b] float64 in (0, 1), the probability that the policy's response is better.
    """
    odds = logit(preferred)
    against = odds.mean(axis=0)
    return ComparedVerdict(
        prompt_id=policy.prompt_id,
        win_rate=float(wins(preferred).mean()),
        tie_rate=float(np.mean(np.abs(preferred - 0.5) < TIE)),
        policy_reward=float(odds.mean()),
        baseline_reward=0.0,
        policy_tokens=float(np.mean([len(ids) for ids in policy.token_ids])),
        baseline_tokens=float(np.mean([len(ids) for ids in baseline.token_ids])),
        policy_rewards=odds.mean(axis=1),
        baseline_rewards=against.mean() - against,
        preferred=preferred.ravel(),
    )
