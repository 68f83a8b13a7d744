"""A pairwise reward made pointwise: each candidate against one of its siblings.

Row in: a prompt with its n candidates. Row out: n rewards from n - 1 comparisons.

Source: RSO, arXiv:2309.06657, section 3.3, Eq 7.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np
from pydantic import Field

from rayflow.core.options import KindOptions
from rayflow.core.rows import Prompt
from rayflow.core.seeds import rng
from rayflow.core.stats import logit
from rayflow.rewards.base import ByOrder


class PairwiseOptions(KindOptions):
    """Settings of every pairwise reward.

    Attributes:
        eps: probabilities are clipped to [eps, 1 - eps], so rewards to +-log((1 - eps) / eps).
        seed: of the choice of the candidate that the others are compared with.
    """

    eps: float = Field(default=1e-6, gt=0, lt=0.5)
    seed: int = Field(default=0, ge=0)


class Pairwise:
    """Base of a pairwise reward: define `judge`, and get `compare` and `score`.

    Attributes:
        num_comparisons: pairs that were asked about so far.
    """

    pairwise: ClassVar[bool] = True

    def __init__(self, options: Any) -> None:
        self.options = options
        self.num_comparisons = 0

    def judge(self, prompt: Prompt, responses: Sequence[str], pairs: np.ndarray) -> np.ndarray:
        """Probabilities that the first of each pair is better: [p] float64 in [0, 1], for pairs [p, 2]."""
        raise NotImplementedError(f"{type(self).__name__} must define judge")

    def compare(self, prompt: Prompt, responses: Sequence[str], pairs: np.ndarray) -> np.ndarray:
        """`judge`, counted and clipped (see `rewards.base.PairwiseReward`); equal texts are exactly even."""
        pairs, differ = self._asked(responses, pairs)
        found = np.full(len(pairs), 0.5)
        if differ.any():
            found[differ] = self._clipped(self.judge(prompt, responses, pairs[differ]))
        return found

    def _asked(self, responses: Sequence[str], pairs: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The pairs [p, 2], counted, and [p] bool which of them have two texts to judge."""
        pairs = np.asarray(pairs).reshape(-1, 2)
        self.num_comparisons += len(pairs)
        return pairs, np.array([responses[i] != responses[j] for i, j in pairs], dtype=bool)

    def _clipped(self, judged: np.ndarray) -> np.ndarray:
        return np.clip(judged, self.options.eps, 1 - self.options.eps)

    def score(self, prompt: Prompt, responses: Sequence[str]) -> np.ndarray:
        """r(y) = logit(probability that y is better than y_b), r(y_b) = 0, for one random candidate y_b.

        The candidates are samples of the SFT policy, so one of them drawn at random, by the prompt's own
        seed, is the random SFT decode that the paper asks for. Were the preferences exactly Bradley-Terry,
        another y_b would shift all rewards of the prompt alike, and no selection by them would change.

        Returns:
            [n] float64.
        """
        rewards, pairs = np.zeros(len(responses)), self._against_one(prompt, len(responses))
        if len(pairs):
            rewards[pairs[:, 0]] = logit(self.compare(prompt, responses, pairs))
        return rewards

    def _against_one(self, prompt: Prompt, n: int) -> np.ndarray:
        """[n - 1, 2]: all candidates but one, each with that one."""
        if n < 2:
            return np.empty((0, 2), np.int64)
        baseline = int(rng(self.options.seed, "baseline", prompt.prompt_id).integers(n))
        others = np.delete(np.arange(n), baseline)
        return np.stack([others, np.full(n - 1, baseline)], axis=1)


class PairwiseByOrder(Pairwise):
    """Base of a pairwise reward that reads each pair in both orders: define `judge_orders`.

    A verdict is the mean of both orders' probabilities, so a liking for one place alone gives even odds.
    """

    orders: ClassVar[bool] = True

    def judge_orders(self, prompt: Prompt, responses: Sequence[str], pairs: np.ndarray) -> np.ndarray:
        """Probabilities [p, 2] that the first of each pair [p, 2] is better: shown first, shown second."""
        raise NotImplementedError(f"{type(self).__name__} must define judge_orders")

    def judge(self, prompt: Prompt, responses: Sequence[str], pairs: np.ndarray) -> np.ndarray:
        """The mean of both orders (see `Pairwise.judge`)."""
        return self.judge_orders(prompt, responses, pairs).mean(axis=1)

    def compare_orders(self, prompt: Prompt, responses: Sequence[str], pairs: np.ndarray) -> ByOrder:
        """`compare`, with both orders' probabilities of the pairs that were judged."""
        pairs, differ = self._asked(responses, pairs)
        found, orders = np.full(len(pairs), 0.5), np.empty((0, 2))
        if differ.any():
            orders = self.judge_orders(prompt, responses, pairs[differ])
            found[differ] = self._clipped(orders.mean(axis=1))
        return ByOrder(found, orders)

    def score_orders(self, prompt: Prompt, responses: Sequence[str]) -> ByOrder:
        """`score`, with both orders' probabilities of the comparisons behind it."""
        rewards, pairs = np.zeros(len(responses)), self._against_one(prompt, len(responses))
        found = self.compare_orders(prompt, responses, pairs)
        rewards[pairs[:, 0]] = logit(found.values)
        return ByOrder(rewards, found.orders)
