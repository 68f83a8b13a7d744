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

_NODES = 101
"""Lengths, as tanh gives them, between which a resample's are divided: then the cost of a step does not grow with the
comparisons. A linear interpolation between them is off by less than 5e-6 times the squared slope."""
_PRIOR = 0.01
"""Precision of a normal prior around 0 of both parameters, in prompts: next to nothing, but finite when all win."""
_LEAST = 50 * _PRIOR
"""What the lengths must tell, or the prior would decide between the constant and the slope: see `_told`."""


@dataclass(frozen=True, kw_only=True)
class LengthControlled:
    """A win rate at equal length. All NaN where the lengths differ by nearly the same in all comparisons, as where one
    side is always much longer: nothing then tells the two apart.

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

    Every resample of the prompts is fitted to the end: a single Newton step from the fit of all prompts goes much too
    far where nearly all are won or lost.

    Args:
        wins: [c] float64 in [0, 1], 1 where the policy's response won, ties 1/2.
        differences: [c] float64, characters by which the policy's response is longer. Characters, not tokens: two
            models may have two tokenizers.
        prompts: [c] int64, the prompt of each comparison, 0..p-1, each at least once.
    """
    deviation = float(np.std(differences))
    settings = {"confidence": confidence, "num_resamples": num_resamples, "deviation": deviation}
    length = np.tanh(differences / deviation) if deviation else np.sign(differences)
    x = np.stack([np.ones(len(wins)), length], axis=1)
    weights = 1 / np.bincount(prompts)[prompts]
    if _told(length, weights) < _LEAST:
        return LengthControlled(win_rate=np.nan, low=np.nan, high=np.nan, slope=np.nan, **settings)
    fitted = _fit(x, wins, weights)
    constants = _resampled(x, wins, weights, prompts, fitted, rng(seed, "length_controlled"), num_resamples)
    tail = (1 - confidence) / 2
    low, high = np.quantile(sigmoid(constants), [tail, 1 - tail])
    return LengthControlled(
        win_rate=float(sigmoid(fitted[0])),
        low=float(low),
        high=float(high),
        slope=float(fitted[1]) if deviation else 0.0,
        **settings,
    )


def _told(length: np.ndarray, weights: np.ndarray) -> float:
    """Information on the constant that is left when the slope is not known, of even chances, in prompts.

    A quarter of the prompts where lengths differ to both sides alike, none where `length` [c] is a constant too.
    """
    total, pull, square = weights.sum(), weights @ length, weights @ length**2
    return float(total - pull**2 / square) / 4 if square else float(total) / 4


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


def _resampled(
    x: np.ndarray,
    wins: np.ndarray,
    weights: np.ndarray,
    prompts: np.ndarray,
    start: np.ndarray,
    generator: np.random.Generator,
    num_resamples: int,
) -> np.ndarray:
    """The constant [num_resamples] fitted to each resample of the prompts, from `start` [2] on."""
    nodes, masses = _by_prompt(x[:, 1], weights, prompts)
    won = np.stack([np.bincount(prompts, weights * wins * column) for column in x.T], axis=1)
    num_prompts = len(won)
    chunk = max(1, 4_000_000 // max(num_prompts, len(nodes)))  # counts held at a time, as in `bootstrap_mean`
    found = []
    for done in range(0, num_resamples, chunk):
        counts = generator.multinomial(
            num_prompts, np.full(num_prompts, 1 / num_prompts), min(chunk, num_resamples - done)
        ).astype(np.float64)
        found.append(_fit_all(nodes, counts @ masses, counts @ won, start)[:, 0])
    return np.concatenate(found)


def _by_prompt(length: np.ndarray, weights: np.ndarray, prompts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Nodes [n], ascending, and each prompt's weight at each of them [p, n].

    A comparison's weight goes to the two nodes around its length such that their mean is that length; where there are
    few lengths, they are the nodes.
    """
    nodes = np.unique(length)
    if len(nodes) > _NODES:
        nodes = np.linspace(nodes[0], nodes[-1], _NODES)
    upper = np.searchsorted(nodes, length).clip(min(1, len(nodes) - 1))
    lower = np.maximum(upper - 1, 0)
    gap = nodes[upper] - nodes[lower]
    share = np.divide(length - nodes[lower], gap, out=np.zeros_like(length), where=gap > 0)
    masses = np.zeros((prompts.max() + 1, len(nodes)))
    np.add.at(masses, (prompts, upper), weights * share)
    np.add.at(masses, (prompts, lower), weights * (1 - share))
    return nodes, masses


def _fit_all(nodes: np.ndarray, masses: np.ndarray, won: np.ndarray, start: np.ndarray) -> np.ndarray:
    """Parameters [r, 2] of many fits at once, damped as in `_fit`.

    Args:
        nodes: [n] lengths.
        masses: [r, n] weight at each of them.
        won: [r, 2] weighted sums of the wins, and of the wins times their length.
        start: [2], where all begin.
    """

    def loss(at: np.ndarray, rows: np.ndarray) -> np.ndarray:
        odds = at[:, :1] + at[:, 1:] * nodes
        fits = (masses[rows] * np.logaddexp(0, odds)).sum(axis=1) - (won[rows] * at).sum(axis=1)
        return fits + _PRIOR / 2 * (at**2).sum(axis=1)

    parameters = np.tile(start, (len(masses), 1))
    rows = np.arange(len(masses))  # those that still move
    best = loss(parameters, rows)
    for _ in range(100):
        step = _newton_step(nodes, masses[rows], won[rows], parameters[rows])
        tried = loss(parameters[rows] + step, rows)
        while (worse := tried > best[rows] + 1e-9).any():
            step[worse] /= 2
            tried[worse] = loss(parameters[rows[worse]] + step[worse], rows[worse])
        parameters[rows] += step
        best[rows] = tried
        rows = rows[np.abs(step).max(axis=1) > 1e-6]  # the next one would be of the order of its square
        if not len(rows):
            break
    return parameters


def _newton_step(nodes: np.ndarray, masses: np.ndarray, won: np.ndarray, at: np.ndarray) -> np.ndarray:
    chance = sigmoid(at[:, :1] + at[:, 1:] * nodes)
    expected, bend = masses * chance, masses * chance * (1 - chance)
    pull = won - np.stack([expected.sum(axis=1), expected @ nodes], axis=1) - _PRIOR * at
    a, b, d = bend.sum(axis=1) + _PRIOR, bend @ nodes, bend @ nodes**2 + _PRIOR
    solved = np.stack([d * pull[:, 0] - b * pull[:, 1], a * pull[:, 1] - b * pull[:, 0]], axis=1)
    return solved / (a * d - b * b)[:, None]
