"""A judge's sampled verdicts to win, tie and loss (AutoSxS). Row in: `SideBySideVerdicts`. Out: `SideBySide`.

Each item, one response of the policy beside one of the baseline, is judged several times, half of them with the two
in swapped order. Source: RSO, arXiv:2309.06657, section 4 (8 verdicts, 4 of them swapped, threshold 0.35).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from rayflow.core.evaluation_rows import SideBySideVerdicts
from rayflow.core.seeds import rng
from rayflow.core.stats import bootstrap_means, num_decided
from rayflow.errors import DataError

Reading = Literal["distance", "scaled"]
READINGS: tuple[Reading, ...] = ("distance", "scaled")
"""What "the magnitude of the average exceeds the threshold" can mean: |avg - 1/2|, or |2 avg - 1| on [-1, 1]."""


@dataclass(frozen=True, kw_only=True)
class Shares:
    """Win, tie and loss of the policy over items, means over prompts, with the bootstrap interval of the win rate.

    Attributes:
        win, tie, loss: shares that sum to 1.
        win_rate, low, high: wins and half of the ties.
        num_decided: prompts on which one side is ahead; None in results of versions that did not count them.
    """

    win: float
    tie: float
    loss: float
    win_rate: float
    low: float
    high: float
    num_decided: int | None = None


@dataclass(frozen=True, kw_only=True)
class SideBySide:
    """What a judge thinks of the policy beside the baseline.

    Attributes:
        distance, scaled: the shares under both readings of the threshold.
        reading: the one to quote.
        threshold: how far an item's average must be from even.
        score, score_low, score_high: mean score of the policy without any threshold, with its interval.
        first, first_low, first_high: mean share of a win that goes to the response shown first; 1/2 without bias,
            since both are shown first equally often.
        consistent: share of items on which both orders lean the same way.
        num_prompts, num_items: with a score.
        num_undecided: items without one, since an order has no verdict that can be told.
        num_verdicts: asked for, over all items.
        num_unparsable, num_unparsable_swapped: verdicts that cannot be told, in each order.
        confidence, num_resamples: of the intervals.
    """

    distance: Shares
    scaled: Shares
    reading: Reading
    threshold: float
    score: float
    score_low: float
    score_high: float
    first: float
    first_low: float
    first_high: float
    consistent: float
    num_prompts: int
    num_items: int
    num_undecided: int
    num_verdicts: int
    num_unparsable: int
    num_unparsable_swapped: int
    confidence: float
    num_resamples: int

    @property
    def chosen(self) -> Shares:
        """The shares under the reading to quote."""
        return self.distance if self.reading == "distance" else self.scaled


def order_means(verdicts: np.ndarray, swapped: np.ndarray) -> np.ndarray:
    """Mean verdict for the policy in each order.

    Args:
        verdicts: [m, v] float64, 1 for the policy, 0 for the baseline, 1/2 for the same, NaN where none can be told.
        swapped: [v] bool, where the policy was shown second.

    Returns:
        [m, 2] float64, policy first and policy second; NaN where an order has no verdict.
    """
    told = ~np.isnan(verdicts)
    filled = np.where(told, verdicts, 0.0)
    with np.errstate(invalid="ignore"):
        means = [filled[:, order].sum(axis=1) / told[:, order].sum(axis=1) for order in (~swapped, swapped)]
    return np.stack(means, axis=1)


def decide(scores: np.ndarray, threshold: float, reading: Reading) -> np.ndarray:
    """+1 for a win, 0 for a tie, -1 for a loss of each score [m] in [0, 1]; exactly the threshold is a tie."""
    lean = scores - 0.5 if reading == "distance" else 2 * scores - 1
    return np.where(np.abs(lean) > threshold + 1e-9, np.sign(lean), 0.0)


def side_by_side(
    rows: Sequence[SideBySideVerdicts],
    *,
    threshold: float = 0.35,
    reading: Reading = "distance",
    seed: int = 0,
    num_resamples: int = 10_000,
    confidence: float = 0.95,
) -> SideBySide:
    """Shares, position bias and what could not be told.

    An item's score is the mean over both orders of the order's mean verdict: the mean of all verdicts where all can be
    told, and free of position bias also where they cannot. Prompts are what the intervals resample.

    Raises:
        DataError: no item has a verdict in both orders.
    """
    columns, counts = _tally(rows, threshold)
    if not len(columns):
        num = counts.get("num_verdicts", 0)
        raise DataError(
            f"None of the judge's {num} answers holds a verdict for both orders of an item. Look at them in the "
            "side-by-side stage: is the template right for this model, and max_tokens large enough?"
        )
    found = bootstrap_means(
        columns, rng(seed, "side_by_side"), num_resamples=num_resamples, confidence=confidence
    )
    mean, low, high = found
    return SideBySide(
        distance=_shares(found[:, 0:4], columns[:, 3]),
        scaled=_shares(found[:, 4:8], columns[:, 7]),
        reading=reading,
        threshold=threshold,
        score=float(mean[8]),
        score_low=float(low[8]),
        score_high=float(high[8]),
        first=float(mean[9]),
        first_low=float(low[9]),
        first_high=float(high[9]),
        consistent=float(mean[10]),
        num_prompts=len(columns),
        **counts,
        confidence=confidence,
        num_resamples=num_resamples,
    )


def _tally(rows: Sequence[SideBySideVerdicts], threshold: float) -> tuple[np.ndarray, dict[str, int]]:
    """Means of `_columns` for each prompt that has an item with a score, and what was counted on the way."""
    columns: list[np.ndarray] = []
    counts: Counter[str] = Counter()
    for row in rows:
        verdicts = row.judge_verdicts.reshape(row.num_items, -1)
        swapped = row.judge_swapped.reshape(row.num_items, -1)[0].astype(bool)
        means = order_means(verdicts, swapped)
        means = means[~np.isnan(means).any(axis=1)]
        lost = np.isnan(verdicts)
        counts.update(
            num_items=len(means),
            num_undecided=len(verdicts) - len(means),
            num_verdicts=verdicts.size,
            num_unparsable=int(lost[:, ~swapped].sum()),
            num_unparsable_swapped=int(lost[:, swapped].sum()),
        )
        if len(means):
            columns.append(_columns(means, threshold).mean(axis=0))
    return np.array(columns), dict(counts)


def _columns(means: np.ndarray, threshold: float) -> np.ndarray:
    """[m, 11] of items: win, tie, loss, win rate under each reading, then score, win of the first, consistency."""
    scores = means.mean(axis=1)
    parts = []
    for reading in READINGS:
        sign = decide(scores, threshold, reading)
        parts += [sign > 0, sign == 0, sign < 0, (sign + 1) / 2]
    first = (means[:, 0] + 1 - means[:, 1]) / 2
    agree = np.sign(means[:, 0] - 0.5) == np.sign(means[:, 1] - 0.5)
    return np.stack([np.asarray(part, np.float64) for part in (*parts, scores, first, agree)], axis=1)


def _shares(found: np.ndarray, by_prompt: np.ndarray) -> Shares:
    """From mean, low and high [3, 4] of win, tie, loss and win rate, and the win rates [p] of the prompts."""
    win, tie, loss, rate = (float(value) for value in found[0])
    return Shares(
        win=win,
        tie=tie,
        loss=loss,
        win_rate=rate,
        low=float(found[1, 3]),
        high=float(found[2, 3]),
        num_decided=num_decided(by_prompt),
    )
