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
        pairs = np.asarray(pairs).reshape(-1, 2)
        self.num_comparisons += len(pairs)
        found = np.full(len(pairs), 0.5)
        differ = np.array([responses[i] != responses[j] for i, j in pairs], dtype=bool)
        if differ.any():
            judged = self.judge(prompt, responses, pairs[differ])
            found[differ] = np.clip(judged, self.options.eps, 1 - self.options.eps)
        return found

    def score(self, prompt: Prompt, responses: Sequence[str]) -> np.ndarray:
        """r(y) = logit(probability that y is better than y_b), r(y_b) = 0, for one random candidate y_b.

        The candidates are samples of the SFT policy, so one of them drawn at random, by the prompt's own
        seed, is the random SFT decode that the paper asks for. Were the preferences exactly Bradley-Terry,
        another y_b would shift all rewards of the prompt alike, and no selection by them would change.

        Returns:
            [n] float64.
        """
        n = len(responses)
        rewards = np.zeros(n)
        if n < 2:
            return rewards
        baseline = int(rng(self.options.seed, "baseline", prompt.prompt_id).integers(n))
        others = np.delete(np.arange(n), baseline)
        pairs = np.stack([others, np.full(n - 1, baseline)], axis=1)
        rewards[others] = logit(self.compare(prompt, responses, pairs))
        return rewards
