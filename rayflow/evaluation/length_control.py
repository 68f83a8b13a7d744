"""The win rate that would be, were both sides' responses of the same length.

Row in: wins and differences in length of single comparisons. Out: one `LengthControlled`.

A logistic regression explains each comparison by a constant and by how much longer the policy's response is:

    P(the policy's wins) = sigmoid(constant + slope * tanh(difference / deviation))

The length-controlled win rate is its prediction at a difference of zero, sigmoid(constant). Of the estimator of
AlpacaEval-LC this is the part for one pair of models: the difficulty of each prompt, which is fitted there over many
models, cannot be told from two.

Source: Dubois et al., arXiv:2404.04475, section 3.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from rayflow.core.seeds import rng
from rayflow.core.stats import sigmoid

_PRIOR = 0.01
"""Precision of a normal prior around 0 of both parameters, in prompts: next to nothing, but finite when all win."""


@dataclass(frozen=True, kw_only=True)
class LengthControlled:
    """A win rate at equal length. All NaN where the lengths always differ by the same: nothing tells the two apart.

    Attributes:
        win_rate, low, high: in [0, 1], with the bootstrap interval over prompts.
        slope: log-odds for each deviation (see there) by which the policy's response is longer, near zero.
        deviation: standard deviation of the difference in length, characters.
        confidence, num_resamples: of the interval.
    """

    win_rate: float
    low: float
    high: float
    slope: float
    deviation: float
    confidence: float
    num_resamples: int


def length_controlled(
    wins: np.ndarray,
    differences: np.ndarray,
    prompts: np.ndarray,
    *,
    seed: int = 0,
    num_resamples: int = 10_000,
    confidence: float = 0.95,
) -> LengthControlled:
    """The win rate at equal length. Every prompt counts the same, however many comparisons it has.

    A resample of the prompts is not fitted to the end: one Newton step from the fit of all prompts leaves an error of
    a smaller order than the interval (Davidson and MacKinnon, International Economic Review 40, 1999).

    Args:
        wins: [c] float64 in [0, 1], 1 where the policy's response won, ties 1/2.
        differences: [c] float64, characters by which the policy's response is longer. Characters, not tokens: two
            models may have two tokenizers.
        prompts: [c] int64, the prompt of each comparison, 0..p-1, each at least once.
    """
    deviation = float(np.std(differences))
    settings = {"confidence": confidence, "num_resamples": num_resamples, "deviation": deviation}
    if deviation == 0 and np.any(differences):
        return LengthControlled(win_rate=np.nan, low=np.nan, high=np.nan, slope=np.nan, **settings)
    length = np.tanh(differences / deviation) if deviation else np.zeros(len(wins))
    x = np.stack([np.ones(len(wins)), length], axis=1)
    weights = 1 / np.bincount(prompts)[prompts]
    fitted = _fit(x, wins, weights)
    gradients, curvatures = _by_prompt(x, wins, weights, prompts, fitted)
    constants = _resampled(fitted, gradients, curvatures, rng(seed, "length_controlled"), num_resamples)
    tail = (1 - confidence) / 2
    low, high = np.quantile(sigmoid(constants), [tail, 1 - tail])
    return LengthControlled(
        win_rate=float(sigmoid(fitted[0])),
        low=float(low),
        high=float(high),
        slope=float(fitted[1]) if deviation else 0.0,
        **settings,
    )


def _fit(x: np.ndarray, wins: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Parameters [2] by damped Newton steps: the loss is convex, so that halving a step that overshoots suffices."""

    def loss(parameters: np.ndarray) -> float:
        odds = x @ parameters
        return float(weights @ (np.logaddexp(0, odds) - wins * odds) + _PRIOR / 2 * parameters @ parameters)

    parameters = np.zeros(2)
    for _ in range(100):
        chance = sigmoid(x @ parameters)
        gradient = x.T @ (weights * (wins - chance)) - _PRIOR * parameters
        curvature = (x * (weights * chance * (1 - chance))[:, None]).T @ x + _PRIOR * np.eye(2)
        step = np.linalg.solve(curvature, gradient)
        while loss(parameters + step) > loss(parameters) + 1e-12:
            step /= 2
        parameters = parameters + step
        if np.abs(step).max() < 1e-9:
            break
    return parameters


def _by_prompt(
    x: np.ndarray, wins: np.ndarray, weights: np.ndarray, prompts: np.ndarray, fitted: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Each prompt's part of the gradient [p, 2] and of the curvature [p, 3] (its distinct entries)."""
    chance = sigmoid(x @ fitted)
    pull, bend = weights * (wins - chance), weights * chance * (1 - chance)
    length = x[:, 1]
    columns = [
        np.bincount(prompts, each) for each in (pull, pull * length, bend, bend * length, bend * length**2)
    ]
    return np.stack(columns[:2], axis=1), np.stack(columns[2:], axis=1)


def _resampled(
    fitted: np.ndarray,
    gradients: np.ndarray,
    curvatures: np.ndarray,
    generator: np.random.Generator,
    num_resamples: int,
) -> np.ndarray:
    """The constant [num_resamples] after one Newton step on each resample of the prompts."""
    num_prompts = len(gradients)
    chunk = max(1, 4_000_000 // num_prompts)
    found = []
    for done in range(0, num_resamples, chunk):
        counts = generator.multinomial(
            num_prompts, np.full(num_prompts, 1 / num_prompts), min(chunk, num_resamples - done)
        )
        pull = counts @ gradients - _PRIOR * fitted
        a, b, d = (counts @ curvatures + np.array([_PRIOR, 0.0, _PRIOR])).T
        found.append(fitted[0] + (d * pull[:, 0] - b * pull[:, 1]) / (a * d - b * b))
    return np.concatenate(found)
