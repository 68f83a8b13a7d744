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

from rayflow.core import draws
from rayflow.selection.base import CountOptions
from rayflow.selection.batch import Selections, in_blocks
from rayflow.selection.checks import finite
from rayflow.selection.copies import Copies, merge_texts
from rayflow.selection.visits import Visits, VisitsByAcceptance


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
        beta: float = Field(default=0.5, ge=0, allow_inf_nan=False)
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
        columns = [np.asarray(seeds, np.uint64)] + ([] if keys is None else [np.asarray(keys, np.int64)])
        return in_blocks(self._block, finite(rewards), *columns)

    def _block(self, rewards: np.ndarray, seeds: np.ndarray, keys: np.ndarray | None = None) -> Selections:
        options, (num_prompts, n) = self.options, rewards.shape
        starts = np.arange(num_prompts)[:, None] * n
        order = draws.permutations(seeds, n) if options.shuffle else np.tile(np.arange(n), (num_prompts, 1))
        order += starts  # flat from here on
        values, present = rewards.take(order), np.full(num_prompts, n)
        copies = None
        if keys is not None and options.text_keyed:
            values, present, places = merge_texts(values, keys.take(order))
            order = order.take(places + starts)
        elif keys is not None:
            copies = Copies.of(keys.take(order))
        # The order has used the first n numbers of each seed.
        uniform = draws.uniform(seeds, n, first=n) if options.beta else np.full((num_prompts, n), 0.5)
        variant = Visits if options.maximum == "pass" else VisitsByAcceptance
        visits = variant(values, present, uniform, options.beta, options.num_accepted, copies)
        visits.run()
        valid = np.arange(visits.accepted.shape[1]) < visits.num_accepted[:, None]
        accepted = (order.take((visits.accepted + starts)[valid]) % n).astype(np.int32)
        return Selections(accepted, visits.num_accepted, visits.num_rounds, visits.num_visits)
