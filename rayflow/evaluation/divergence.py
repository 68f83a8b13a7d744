"""How far a policy has moved from the SFT policy: KL(policy || SFT) on the policy's own samples.

Row in: both models' log-probabilities of the same responses. Out: one `Divergence`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from rayflow.core.seeds import rng
from rayflow.core.stats import bootstrap_mean, bootstrap_ratio
from rayflow.errors import DataError


@dataclass(frozen=True)
class PolicyLogprobs:
    """One prompt's samples of the policy; every array is [n].

    Attributes:
        policy, sft: summed log-probabilities under each model, nats.
        num_tokens: int, tokens of each response.
        cut: bool, responses that ended at the length limit rather than by themselves.
    """

    policy: np.ndarray
    sft: np.ndarray
    num_tokens: np.ndarray
    cut: np.ndarray


@dataclass(frozen=True, kw_only=True)
class Divergence:
    """KL(policy || SFT), means over prompts with bootstrap intervals over prompts.

    Attributes:
        nats, low, high: of a whole response. An estimate of few samples can be negative; the divergence is not.
        nats_per_token, token_low, token_high: the sum over all responses for each of their tokens.
        num_prompts, num_responses: behind the numbers.
        cut: share of responses cut at the length limit, of which the divergence up to there is counted.
        confidence, num_resamples: of the intervals.
    """

    nats: float
    low: float
    high: float
    nats_per_token: float
    token_low: float
    token_high: float
    num_prompts: int
    num_responses: int
    cut: float
    confidence: float
    num_resamples: int


def divergence(
    rows: Sequence[PolicyLogprobs],
    *,
    seed: int = 0,
    num_resamples: int = 10_000,
    confidence: float = 0.95,
) -> Divergence:
    """The mean of log(policy / SFT) over responses drawn from the policy itself, untempered: an unbiased estimate.

    Raises:
        DataError: there are no rows.
    """
    if not rows:
        raise DataError("The divergence from the SFT policy needs samples of the policy, and there are none.")
    ratios = [np.asarray(row.policy, np.float64) - np.asarray(row.sft, np.float64) for row in rows]
    settings = {"num_resamples": num_resamples, "confidence": confidence}
    means = np.array([each.mean() for each in ratios])
    nats, low, high = bootstrap_mean(means, rng(seed, "divergence"), **settings)
    sums = np.array([each.sum() for each in ratios])
    tokens = np.array([float(row.num_tokens.sum()) for row in rows])
    per_token = bootstrap_ratio(sums, tokens, rng(seed, "divergence", "tokens"), **settings)
    return Divergence(
        nats=nats,
        low=low,
        high=high,
        nats_per_token=per_token[0],
        token_low=per_token[1],
        token_high=per_token[2],
        num_prompts=len(rows),
        num_responses=sum(len(each) for each in ratios),
        cut=float(np.mean(np.concatenate([row.cut for row in rows]))),
        **settings,
    )
