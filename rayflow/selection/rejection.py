"""Statistical rejection sampling, the selection rule of the RSO paper.

Rows in: rewards [p, n]. Rows out: the indices of those accepted, whose law approaches
pi_r(y|x) = pi_sft(y|x) exp(r(x,y)/beta) / Z(x) as the number of candidates grows.

Source: Liu et al., "Statistical Rejection Sampling Improves Preference Optimization", arXiv:2309.06657,
Eq 4, Theorem 1, Algorithm 1 and section 3.2.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
from pydantic import Field

from rayflow.selection.base import CountOptions
from rayflow.selection.batch import Selections
from rayflow.selection.checks import finite


class RejectionSampling:
    """Algorithm 1 over candidate indices.

    Two departures from the printed code, which keys candidates by their text. A text that was sampled twice
    counts twice, as only then is the outcome distributed as pi_r; once it is accepted all its copies leave, so
    that what is accepted are distinct responses (Theorem 1). And where there are fewer texts than
    `num_accepted`, all are returned instead of an endless loop; the caller sees the shortfall.
    """

    class Config(CountOptions):
        """Settings of `rejection`; the defaults are the paper's (section 4).

        Attributes:
            beta: temperature of the target pi_r, in units of the reward. 0 takes the highest rewards
                (num_accepted=1: best of n); a large value takes the first candidates whatever their reward.
            shuffle: visit the candidates in a random order of the row's own. The law for a finite number
                of candidates depends on the order, so turn it off only to reproduce the printed code.
            maximum: when the maximum reward of the remaining candidates is taken anew: at the start of each
                "pass" as in Algorithm 1, or after each "acceptance" as in the prose of section 3.2.
            text_keyed: reproduce the printed code, in which equal texts are one candidate, at the place of
                the first and with the reward of the last. The outcome is then not distributed as pi_r.
        """

        kind: str = "rejection"
        beta: float = Field(default=0.5, ge=0)
        shuffle: bool = True
        maximum: Literal["pass", "acceptance"] = "pass"
        text_keyed: bool = False

    needs_keys = True

    def __init__(self, options: Config) -> None:
        self.options = options

    def select(self, rewards: np.ndarray, seeds: np.ndarray, keys: np.ndarray | None = None) -> Selections:
        """Choose candidates of p prompts (see `selection.base.Selector`).

        Args:
            rewards: [p, n] float64, finite.
            seeds: [p] uint64.
            keys: [p, n] int64 in [0, n), equal where texts are; None if all texts differ.

        Raises:
            ValueError: a reward is not finite.
        """
        # Compiled, or loaded from the compiler's cache: half a second that only a selection takes.
        from rayflow.selection.algorithm import select_rows

        rewards, options = np.ascontiguousarray(finite(rewards)), self.options
        texts = np.tile(np.arange(rewards.shape[1]), (len(rewards), 1)) if keys is None else keys
        accepted, counts = select_rows(
            rewards,
            np.ascontiguousarray(texts, np.int64),
            np.ascontiguousarray(seeds, np.uint64),
            float(options.beta),
            options.num_accepted,
            options.shuffle,
            options.maximum == "acceptance",
            options.text_keyed,
        )
        num_accepted, num_rounds, num_visits = counts.T
        valid = np.arange(accepted.shape[1]) < num_accepted[:, None]
        return Selections(accepted[valid], num_accepted, num_rounds, num_visits)
