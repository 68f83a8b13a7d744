"""Choosing beta without training: what stored scores say about rejection sampling at every temperature.

Rows in: the rewards of all prompts, twice or more, as a stream; texts and lengths of a sample of prompts.
Out: one `Diagnosis`, whose numbers are means over prompts with bootstrap intervals (the prompt is the unit).

The estimates are those of `importance`, `best_of` and `correlation`. What depends on the order of visits
(passes, distinct responses) comes from running the real selection rule, which the caller passes in.

Source: Liu et al., RSO, arXiv:2309.06657, Eq 4, Theorem 1 and Algorithm 1.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, fields

import numpy as np

from rayflow.core import seeds, stats
from rayflow.errors import ConfigError, DataError
from rayflow.evaluation import best_of, correlation, importance
from rayflow.evaluation.diagnosis import (
    BetaPoint,
    CountPoint,
    Diagnosis,
    Interval,
    LengthCorrelation,
    Outcome,
)

Batches = Callable[[], Iterable[np.ndarray]]
"""Starts one pass over all stored rewards: arrays [p, n] float64, in the order of the prompts."""
Rule = Callable[[np.ndarray, float], tuple[Sequence[np.ndarray], np.ndarray]]
"""Rejection sampling of the sample's prompts: (rewards [m, n], beta) -> (accepted indices of each, passes [m])."""

_FIELDS = tuple(field.name for field in fields(importance.Estimate))


@dataclass(frozen=True, kw_only=True)
class Sample:
    """Prompts drawn at random, in memory, for what needs texts, lengths or the real rule.

    Attributes:
        rewards: [m, n] float64.
        lengths: [m, n] int, tokens of each response.
        texts: [m, n] int, equal within a prompt where two responses have the same text.
    """

    rewards: np.ndarray
    lengths: np.ndarray
    texts: np.ndarray


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What to estimate.

    Attributes:
        num_accepted: responses to accept per prompt, k.
        betas: values to show, each >= 0; empty for a grid that fits the rewards.
        own_beta: the run's own beta, shown too; None if its selection has none.
        own_kind, own_accepted: the run's own rule and its k, with which a command changes the beta only.
        kl_budget: nats the target may be away from pi_sft; None for `importance.default_kl_budget`.
        seed: the run's; bootstrap resamples derive from it.
        confidence: of the intervals.
    """

    num_accepted: int
    betas: tuple[float, ...] = ()
    own_beta: float | None = None
    own_kind: str = ""
    own_accepted: int | None = None
    kl_budget: float | None = None
    seed: int = 0
    confidence: float = 0.95


def diagnose(batches: Batches, num_prompts: int, sample: Sample, rule: Rule, settings: Settings) -> Diagnosis:
    """Estimate everything from stored scores.

    Args:
        batches: passes over the rewards of all prompts.
        num_prompts: rows of one pass.
        sample: some of those prompts with texts and lengths.
        rule: the selection rule, see `Rule`.
        settings: what to estimate.

    Raises:
        ConfigError: a setting leaves nothing to choose.
        DataError: the rewards do.
    """
    n, k = sample.rewards.shape[1], settings.num_accepted
    budget, scale = _budget(settings, n), float(sample.rewards.std(axis=1).mean())
    if not np.ptp(sample.rewards, axis=1).any():  # exactly: the deviation of equal numbers may be rounding
        raise DataError(
            f"All {n} candidates of each prompt have the same reward, so no beta can prefer one of them. "
            "Look at the reward, or at the sampling temperature."
        )
    recommended = importance.smallest_beta(budget, scale, lambda betas: _mean_kl(batches, num_prompts, betas))
    own = () if settings.own_beta is None else (settings.own_beta,)
    wanted = {*(settings.betas or (*importance.beta_grid(scale), 0.0)), recommended, *own}
    betas = [math.inf, *sorted(wanted, reverse=True)]
    estimates, curves = _all_prompts(batches, num_prompts, betas, _curves(n, k), settings)
    enough = importance.trusted_ess(n)
    points = [
        BetaPoint(beta=beta, **values, trusted=values["ess"].mean >= enough, outcome=outcome)
        for beta, values, outcome in zip(
            betas, estimates, _outcomes(betas, sample, rule, settings), strict=True
        )
    ]
    return Diagnosis(
        num_prompts=num_prompts,
        num_candidates=n,
        num_accepted=k,
        num_sampled=len(sample.rewards),
        kl_budget=budget,
        trusted_ess=enough,
        own_beta=settings.own_beta,
        own_kind=settings.own_kind,
        own_accepted=settings.own_accepted,
        recommended=recommended,
        sft=points[0],
        points=tuple(points[1:]),
        best_of=curves["best_of"],
        top_k=curves["top_k"],
        length=_length(sample, settings),
        distinct_candidates=float(np.mean([len(np.unique(row)) for row in sample.texts])),
        confidence=settings.confidence,
    )


def _budget(settings: Settings, n: int) -> float:
    """The KL budget in nats, with the settings that concern it checked."""
    if settings.num_accepted >= n:
        raise ConfigError(
            f"Accepting {settings.num_accepted} of {n} candidates takes all of them whatever beta is. "
            f"Use --num-accepted below {n}."
        )
    if any(not 0 <= beta < math.inf for beta in settings.betas):
        raise ConfigError(f"--beta must be a number >= 0 (given: {', '.join(map(str, settings.betas))}).")
    budget = settings.kl_budget
    if budget is None:
        return importance.default_kl_budget(n, settings.num_accepted)
    if not 0.001 <= budget < math.inf:  # below, the estimate is all noise
        raise ConfigError(f"--kl-budget must be at least 0.001 nats (given: {budget}).")
    return budget


def _mean_kl(batches: Batches, num_prompts: int, betas: Sequence[float]) -> np.ndarray:
    """[b] mean KL over all prompts, nats: one pass."""
    total = np.zeros(len(betas))
    for rewards in batches():
        total += [importance.estimate(rewards, beta).kl.sum() for beta in betas]
    return total / num_prompts


def _curves(n: int, k: int) -> dict[str, list[tuple[int, float, np.ndarray]]]:
    """For best-of-N and top-k: (count, KL bound, weights of the order statistics [n]), weakest first."""
    powers = {2**i for i in range(n.bit_length())}
    return {
        "best_of": [(c, best_of.best_of_kl(c), best_of.best_of_weights(n, c)) for c in sorted({*powers, n})],
        "top_k": [
            (c, best_of.top_k_kl(n, c), best_of.top_k_weights(n, c)) for c in sorted({*powers, k})[::-1]
        ],
    }


def _all_prompts(
    batches: Batches,
    num_prompts: int,
    betas: Sequence[float],
    curves: dict[str, list[tuple[int, float, np.ndarray]]],
    settings: Settings,
) -> tuple[list[dict[str, Interval]], dict[str, tuple[CountPoint, ...]]]:
    """One pass over all prompts: the estimates of every beta by name, and the points of every curve."""
    order = np.stack([weights for curve in curves.values() for _, _, weights in curve])
    blocks = stats.BlockMeans(num_prompts)
    for rewards in batches():
        estimates = [importance.estimate(rewards, beta) for beta in betas]
        expected = np.sort(rewards, axis=1) @ order.T
        gains = expected - rewards.mean(axis=1, keepdims=True)
        blocks.add(np.column_stack([getattr(e, f) for e in estimates for f in _FIELDS] + [expected, gains]))
    means = blocks.intervals(seeds.rng(settings.seed, "diagnose", "prompts"), settings.confidence)
    found = iter(Interval(*column) for column in means.T.tolist())
    by_beta = [{name: next(found) for name in _FIELDS} for _ in betas]
    rewards_of = {name: [next(found) for _ in curve] for name, curve in curves.items()}
    gains_of = {name: [next(found) for _ in curve] for name, curve in curves.items()}
    points = {
        name: tuple(
            CountPoint(count=count, reward=reward, gain=gain, kl_bound=bound)
            for (count, bound, _), reward, gain in zip(curve, rewards_of[name], gains_of[name], strict=True)
        )
        for name, curve in curves.items()
    }
    return by_beta, points


def _outcomes(betas: Sequence[float], sample: Sample, rule: Rule, settings: Settings) -> list[Outcome]:
    """What the real rule accepts at each beta, over the sample's prompts."""
    columns = []
    for beta in betas:
        accepted, rounds = rule(sample.rewards, beta)
        chosen = list(enumerate(accepted))
        columns += [
            np.asarray(rounds, np.float64),
            np.array([len(np.unique(sample.texts[i, indices])) for i, indices in chosen], np.float64),
            np.array([sample.rewards[i, indices].mean() for i, indices in chosen]),
            np.array([sample.lengths[i, indices].mean() for i, indices in chosen]),
        ]
    found = iter(_intervals(np.column_stack(columns), settings))
    return [
        Outcome(rounds=next(found), distinct=next(found), reward=next(found), tokens=next(found))
        for _ in betas
    ]


def _intervals(rows: np.ndarray, settings: Settings) -> list[Interval]:
    """Means of the columns of [m, q] over the sample's prompts."""
    generator = seeds.rng(settings.seed, "diagnose", "sample")
    found = stats.bootstrap_means(rows, generator, confidence=settings.confidence)
    return [Interval(*column) for column in found.T.tolist()]


def _length(sample: Sample, settings: Settings) -> LengthCorrelation:
    """Correlation of reward with length; prompts in which one of them is constant have none."""
    rewards, lengths = sample.rewards, sample.lengths.astype(np.float64)
    within = np.column_stack([correlation.pearson(rewards, lengths), correlation.spearman(rewards, lengths)])
    within = within[np.isfinite(within).all(axis=1)]
    nothing = Interval(math.nan, math.nan, math.nan)
    linear, ranked = _intervals(within, settings) if len(within) else (nothing, nothing)
    return LengthCorrelation(
        pearson_within=linear,
        spearman_within=ranked,
        pearson=float(correlation.pearson(rewards.ravel(), lengths.ravel())),
        spearman=float(correlation.spearman(rewards.ravel(), lengths.ravel())),
        num_prompts=len(within),
    )
