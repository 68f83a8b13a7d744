"""Best-of-N and top-k on the plane of reward and KL, from the same n candidates of each prompt.

Row in: the rewards of a prompt's candidates in ascending order. Row out: expected rewards, as weighted sums
of the order statistics; the weights and the KL depend on the counts alone.
"""

from __future__ import annotations

import math
from functools import cache

import numpy as np


def best_of_weights(n: int, best_of: int) -> np.ndarray:
    """Weights of the order statistics in the expected maximum of N candidates drawn without replacement.

    Of the C(n, N) subsets, C(j-1, N-1) have the j-th smallest value as their maximum. The mean over all
    subsets is an unbiased estimate of best-of-N's expected reward, for every N <= n.

    Args:
        n: candidates.
        best_of: N, 1 <= N <= n.

    Returns:
        [n] float64, for rewards in ascending order; sums to 1.
    """
    # C(j-1, N-1) / C(n, N) from j = n downwards: it starts at N/n, and each step is a factor below 1.
    j = np.arange(n - 1, 0, -1)
    factors = np.maximum(j - best_of + 1, 0) / j
    return (best_of / n * np.concatenate([[1.0], np.cumprod(factors)]))[::-1]


def top_k_weights(n: int, k: int) -> np.ndarray:
    """[n] float64: 1/k for the k highest of n rewards in ascending order, 0 for the others."""
    return np.where(np.arange(n) >= n - k, 1 / k, 0.0)


def best_of_kl(best_of: int) -> float:
    """log N - (N-1)/N nats: an upper bound on KL(best-of-N || pi_sft), reached where no two rewards tie.

    Source: Beirami et al., "Theoretical guarantees on the best-of-n alignment policy", arXiv:2401.01879.
    """
    return math.log(best_of) - (best_of - 1) / best_of


def top_k_kl(n: int, k: int) -> float:
    """Upper bound in nats on the KL from pi_sft of one response drawn uniformly from the top k of n.

    Let V be the share of pi_sft with a higher reward than the response, uniform under pi_sft where no two
    rewards tie. Under top-k its density is g(v) = (n/k) P(Binomial(n-1, v) <= k-1), so
    KL = int_0^1 g log g dv; with ties the rewards are a function of a tie-free quantity, which can only
    lower the KL. At k = 1 this is the bound of `best_of_kl`; at k = n it is 0.
    """
    nodes, weights = _quadrature()
    # g falls around v = k/n, so the panels double in width from 1/n on.
    edges = np.minimum(np.concatenate([[0.0], 2.0 ** np.arange(math.ceil(math.log2(n)) + 1) / n]), 1.0)
    total = 0.0
    for low, high in zip(edges[:-1].tolist(), edges[1:].tolist(), strict=True):
        v = low + (high - low) * (nodes + 1) / 2
        density = n / k * _binomial_cdf(n - 1, v, k - 1)
        logs = np.log(density, out=np.zeros_like(density), where=density > 0)
        total += float(weights @ (density * logs)) * (high - low) / 2
    return max(0.0, total)


@cache
def _quadrature() -> tuple[np.ndarray, np.ndarray]:
    """Gauss-Legendre nodes and weights on [-1, 1]; an eigenvalue problem, so solved once."""
    return np.polynomial.legendre.leggauss(192)


def _binomial_cdf(trials: int, v: np.ndarray, most: int) -> np.ndarray:
    """P(Binomial(trials, v) <= most) for v [m] in (0, 1)."""
    if most >= trials:
        return np.ones_like(v)
    i = np.arange(most + 1)
    log_choose = np.array(
        [math.lgamma(trials + 1) - math.lgamma(j + 1) - math.lgamma(trials - j + 1) for j in i]
    )
    logs = log_choose + np.outer(np.log(v), i) + np.outer(np.log1p(-v), trials - i)
    return np.minimum(np.exp(logs).sum(axis=1), 1.0)
