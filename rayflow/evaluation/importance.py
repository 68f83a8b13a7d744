"""A tilted policy seen through candidates of the untilted one: importance weights over each prompt's group.

Row in: the rewards of n candidates drawn from pi_sft. Row out: what they say about
pi_beta(y|x) = pi_sft(y|x) exp(r(x,y)/beta) / Z(x), with nothing trained or sampled.

A candidate's weight is w_i = exp((r_i - max_j r_j)/beta), and p_i = w_i / sum_j w_j. Everything below is a
function of w and p.

Source: Liu et al., RSO, arXiv:2309.06657 (Eq 4: the target; Theorem 1: the acceptance rate). Effective sample
size: Kong (1992). That n must grow like exp(KL): Chatterjee and Diaconis, arXiv:1511.01437.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

GRID = ("1", "1.5", "2", "3", "5", "7")
"""Mantissas of the default grid: six round values per decade, about equally far apart on a log scale."""
NUM_PROBES = 32
"""Values of beta that one pass of the search tries: 720 candidates are down to one after two passes."""


@dataclass(frozen=True)
class Estimate:
    """What p prompts say about pi_beta, one value per prompt.

    Attributes:
        reward: [p] float64, E[r] under pi_beta: sum_i p_i r_i (self-normalised).
        gain: [p] float64, that minus the candidates' mean reward; >= 0.
        kl: [p] float64, KL(pi_beta || pi_sft) in nats: sum_i p_i log(n p_i). At most log n, whatever the
            truth: n candidates cannot show a policy that is further away.
        ess: [p] float64, effective sample size (sum w)^2 / sum w^2, in [1, n].
        acceptance: [p] float64, acceptance rate of the first pass of rejection sampling: mean of w.
    """

    reward: np.ndarray
    gain: np.ndarray
    kl: np.ndarray
    ess: np.ndarray
    acceptance: np.ndarray


def importance_weights(gaps: np.ndarray, beta: float) -> np.ndarray:
    """exp((r - max)/beta) within each prompt.

    Args:
        gaps: [p, n] float64, r - max: each reward minus its prompt's highest.
        beta: temperature, >= 0, in units of the reward. 0 is the limit: 1 for the candidates of maximal
            reward, 0 for the others. Infinity is the other one: 1 for all.

    Returns:
        [p, n] float64 in [0, 1], at least one 1 in each row.
    """
    if beta == 0:
        return (gaps == 0).astype(np.float64)
    with np.errstate(over="ignore"):  # a gap beyond the range of floats is -inf, whose exponential is 0
        return np.exp(gaps / beta)


def estimate(rewards: np.ndarray, beta: float) -> Estimate:
    """Estimates for one beta from rewards [p, n] float64, finite; `beta` as in `importance_weights`."""
    best = rewards.max(axis=1)
    gaps = rewards - best[:, None]
    weights = importance_weights(gaps, beta)
    total, n = weights.sum(axis=1), rewards.shape[1]
    expected_gap = np.einsum("pn,pn->p", weights, gaps) / total
    # sum p log(n p) with log p = gap/beta - log(total), which saves a logarithm per candidate.
    kl = np.log(n / total) + (expected_gap / beta if beta else 0.0)
    return Estimate(
        reward=best + expected_gap,
        gain=np.maximum(expected_gap - gaps.mean(axis=1), 0.0),
        kl=np.maximum(kl, 0.0),
        ess=total**2 / np.einsum("pn,pn->p", weights, weights),
        acceptance=total / n,
    )


def trusted_ess(num_candidates: int) -> float:
    """The mean effective sample size below which the estimates are not to be trusted: 10, or 3n/4 if less.

    Both estimates are biased low, the more the fewer candidates carry the weight. For Gaussian rewards and
    n from 8 to 128, a mean of this size leaves the KL short by at most a quarter, the gain by at most a fifth.
    """
    return min(10.0, 0.75 * num_candidates)


def default_kl_budget(num_candidates: int, num_accepted: int) -> float:
    """Half of log(n/k) nats: as far from no selection (0) as from taking just the top k of n (log(n/k)).

    log(n/k) is the divergence of a uniform choice among k of the n candidates from one among all of them,
    so a beta beyond it has nothing left to decide. For the paper's 8 of 64 the budget is 1.04 nats.
    """
    return 0.5 * math.log(num_candidates / num_accepted)


def beta_grid(scale: float) -> list[float]:
    """Round values of beta from scale/20 to 8 scale, ascending: from nearly greedy to nearly no selection.

    Args:
        scale: typical standard deviation of the rewards within a prompt. For Gaussian rewards
            KL = (scale/beta)^2 / 2.
    """
    low, high = scale / 20, 8 * scale
    exponents = range(math.floor(math.log10(low)), math.floor(math.log10(high)) + 1)
    values = [float(f"{mantissa}e{exponent}") for exponent in exponents for mantissa in GRID]
    return [value for value in values if low <= value <= high]


def smallest_beta(kl_budget: float, scale: float, mean_kl: Callable[[Sequence[float]], np.ndarray]) -> float:
    """The smallest beta of two significant digits whose mean KL estimate is within a budget; 0 if all are.

    The KL falls as beta grows, so a search finds it; each step of the search tries several values, because
    one call of `mean_kl` is a pass over all stored scores whatever the number of values.

    Args:
        kl_budget: nats, > 0.
        scale: as in `beta_grid`; betas from scale/1000 to 100,000 scale are tried.
        mean_kl: mean KL over prompts [b] float64, nats, for b values of beta.
    """
    exponents = range(math.floor(math.log10(scale)) - 3, math.floor(math.log10(scale)) + 6)
    candidates = [0.0, *(float(f"{digits}e{power - 1}") for power in exponents for digits in range(10, 100))]
    below, within = -1, len(candidates) - 1
    while within - below > 1:
        probes = np.unique(np.linspace(below + 1, within - 1, NUM_PROBES).round().astype(int))
        fits = mean_kl([candidates[i] for i in probes]) <= kl_budget
        first = int(np.argmax(fits)) if fits.any() else len(probes)
        below, within = (
            int(probes[first - 1]) if first else below,
            int(probes[first]) if first < len(probes) else within,
        )
    return candidates[within]
