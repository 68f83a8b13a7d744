"""How good a reward model is: on pairs whose better response is known, and that it has not seen.

Row in: its log-odds for each pair, and the responses' lengths. Out: one `RewardQuality`.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from rayflow.core.seeds import rng
from rayflow.core.stats import bootstrap_mean, num_decided, sigmoid
from rayflow.errors import DataError
from rayflow.evaluation.correlation import pearson, spearman


@dataclass(frozen=True)
class JudgedPairs:
    """All held-out pairs; every array is [q] but the last two.

    Attributes:
        prompts: int64, the prompt that each pair belongs to, 0..g-1.
        margins: float64, log-odds that the chosen response is better.
        chosen_tokens, rejected_tokens: int64, lengths.
        chosen_scores, rejected_scores: float64, a pointwise model's scores; empty for a pairwise one.
        scores: [n] float64, all of its scores, one for each response; empty for a pairwise one.
        score_tokens: [n] int64, lengths of those responses.
    """

    prompts: np.ndarray
    margins: np.ndarray
    chosen_tokens: np.ndarray
    rejected_tokens: np.ndarray
    chosen_scores: np.ndarray
    rejected_scores: np.ndarray
    scores: np.ndarray
    score_tokens: np.ndarray


@dataclass(frozen=True)
class Bin:
    """One bin of the reliability diagram.

    Attributes:
        low, high: range of the predicted probability.
        count: pairs in it.
        predicted: mean predicted probability; NaN in an empty bin.
        observed: share of them in which the response that was asked about is the chosen one.
    """

    low: float
    high: float
    count: int
    predicted: float
    observed: float


@dataclass(frozen=True, kw_only=True)
class LengthEffect:
    """What length has to do with the preferences and with the model. NaN where there is nothing to divide by.

    Attributes:
        pearson, spearman: correlation of the margin with the difference in length, each pair in both
            orientations, so that neither depends on which response is called the chosen one.
        score_pearson, score_spearman: correlation of a pointwise model's score with length, over responses.
        num_unequal: pairs of unequal length, on which the rest is computed.
        longer_chosen: share in which the chosen response is the longer one.
        longer_preferred: share in which the model prefers the longer one.
        accuracy_longer, accuracy_shorter: accuracy where the chosen response is longer, and where it is
            shorter. A model that only counts tokens has 1 and 0.
    """

    pearson: float
    spearman: float
    score_pearson: float
    score_spearman: float
    num_unequal: int
    longer_chosen: float
    longer_preferred: float
    accuracy_longer: float
    accuracy_shorter: float


@dataclass(frozen=True, kw_only=True)
class RewardQuality:
    """A reward model on held-out pairs.

    Attributes:
        accuracy, low, high: mean over prompts of the share of their pairs that it ranks as labelled, ties
            half, with its bootstrap interval over prompts.
        confidence, num_resamples: of the interval.
        num_prompts, num_pairs: behind the numbers.
        tie_rate: share of pairs with equal scores.
        log_loss: mean of -log P(the chosen is better), nats; log 2 is a coin.
        calibration_error: expected calibration error of P(the first is better), pairs in random orientation.
        bins: the reliability diagram.
        length: what length has to do with it.
        num_decided: prompts of which more, or fewer, than half of the pairs are ranked as labelled; None in results
            of versions that did not count them.
    """

    accuracy: float
    low: float
    high: float
    confidence: float
    num_resamples: int
    num_prompts: int
    num_pairs: int
    tie_rate: float
    log_loss: float
    calibration_error: float
    bins: tuple[Bin, ...]
    length: LengthEffect
    num_decided: int | None = None


def reward_quality(
    pairs: JudgedPairs,
    *,
    seed: int,
    num_bins: int = 10,
    num_resamples: int = 10_000,
    confidence: float = 0.95,
) -> RewardQuality:
    """Accuracy, calibration and length.

    Args:
        pairs: at least one.
        seed: of the orientations and the resamples.
        num_bins: of equal width, for the calibration.
        num_resamples: bootstrap resamples.
        confidence: of the interval, in (0, 1).

    Raises:
        DataError: there are no pairs.
    """
    if not len(pairs.margins):
        raise DataError("A reward model needs at least one held-out pair to be measured by.")
    correct = _correct(pairs.margins)
    counts = np.bincount(pairs.prompts)
    shares = np.bincount(pairs.prompts, correct)[counts > 0] / counts[counts > 0]
    accuracy, low, high = bootstrap_mean(
        shares, rng(seed, "accuracy"), num_resamples=num_resamples, confidence=confidence
    )
    bins = reliability(pairs.margins, rng(seed, "orientation"), num_bins)
    return RewardQuality(
        accuracy=accuracy,
        low=low,
        high=high,
        confidence=confidence,
        num_resamples=num_resamples,
        num_prompts=len(shares),
        num_pairs=len(correct),
        tie_rate=float(np.mean(pairs.margins == 0)),
        log_loss=float(np.mean(np.logaddexp(0, -pairs.margins))),
        calibration_error=calibration_error(bins),
        bins=bins,
        length=length_effect(pairs),
        num_decided=num_decided(shares),
    )


def _correct(margins: np.ndarray) -> np.ndarray:
    """1 where the chosen response is ahead, 0 where it is behind, 1/2 where they are equal."""
    return (np.sign(margins) + 1) / 2


def reliability(margins: np.ndarray, generator: np.random.Generator, num_bins: int) -> tuple[Bin, ...]:
    """What the model predicts against what is so, in bins of equal width over [0, 1].

    Asked always about the chosen response, the truth would be 1 every time; so each pair is turned at random.

    Args:
        margins: [q] float64, log-odds that the chosen response is better.
        generator: draws which of the two is asked about.
        num_bins: bins.

    Source:
        Expected calibration error: Guo et al., arXiv:1706.04599, Eq 3.
    """
    truth = generator.random(len(margins)) < 0.5
    predicted = sigmoid(np.where(truth, margins, -margins))
    where = np.minimum((predicted * num_bins).astype(np.int64), num_bins - 1)
    counts = np.bincount(where, minlength=num_bins)
    with np.errstate(invalid="ignore"):
        means = np.bincount(where, predicted, num_bins) / counts
        shares = np.bincount(where, truth, num_bins) / counts
    return tuple(
        Bin(i / num_bins, (i + 1) / num_bins, int(counts[i]), float(means[i]), float(shares[i]))
        for i in range(num_bins)
    )


def calibration_error(bins: tuple[Bin, ...]) -> float:
    """Mean over pairs of the distance between prediction and truth in the pair's bin."""
    gaps = [each.count * abs(each.predicted - each.observed) for each in bins if each.count]
    return float(sum(gaps) / sum(each.count for each in bins))


def length_effect(pairs: JudgedPairs) -> LengthEffect:
    """See `LengthEffect`."""
    difference = (pairs.chosen_tokens - pairs.rejected_tokens).astype(np.float64)
    both = np.concatenate([pairs.margins, -pairs.margins]), np.concatenate([difference, -difference])
    longer, shorter = difference > 0, difference < 0
    correct = _correct(pairs.margins)
    preferred = np.concatenate([correct[longer], 1 - correct[shorter]])
    responses = pairs.scores, pairs.score_tokens.astype(np.float64)
    has_scores = len(pairs.scores) > 0
    return LengthEffect(
        pearson=float(pearson(*both)),
        spearman=float(spearman(*both)),
        score_pearson=float(pearson(*responses)) if has_scores else float("nan"),
        score_spearman=float(spearman(*responses)) if has_scores else float("nan"),
        num_unequal=len(preferred),
        longer_chosen=_mean(longer[longer | shorter]),
        longer_preferred=_mean(preferred),
        accuracy_longer=_mean(correct[longer]),
        accuracy_shorter=_mean(correct[shorter]),
    )


def _mean(values: np.ndarray) -> float:
    return float(values.mean()) if len(values) else float("nan")
