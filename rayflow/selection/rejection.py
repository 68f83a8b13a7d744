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
from rayflow.selection.visits import Visits, VisitsByAcceptance


class RejectionSampling:
    """Algorithm 1 over candidate indices.

    Two departures from the printed code, which keys candidates by their text: a text that was sampled twice
    counts twice (only then is the outcome distributed as pi_r), and where there are fewer candidates than
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

    def __init__(self, options: Config) -> None:
        self.options = options
        self.needs_keys = options.text_keyed

    def select(self, rewards: np.ndarray, seeds: np.ndarray, keys: np.ndarray | None = None) -> Selections:
        """Choose candidates of p prompts (see `selection.base.Selector`).

        Args:
            rewards: [p, n] float64, finite.
            seeds: [p] uint64.
            keys: [p, n] int64 in [0, n), equal where texts are; only with `text_keyed`.

        Raises:
            ValueError: a reward is not finite, or `text_keyed` without keys.
        """
        if (keys is not None) != self.needs_keys:
            raise ValueError("keys of the texts are given exactly where text_keyed is on")
        columns = [np.asarray(seeds, np.uint64)] + ([] if keys is None else [np.asarray(keys, np.int64)])
        return in_blocks(self._block, finite(rewards), *columns)

    def _block(self, rewards: np.ndarray, seeds: np.ndarray, keys: np.ndarray | None = None) -> Selections:
        options, (num_prompts, n) = self.options, rewards.shape
        starts = np.arange(num_prompts)[:, None] * n
        order = draws.permutations(seeds, n) if options.shuffle else np.tile(np.arange(n), (num_prompts, 1))
        order += starts  # flat from here on
        values, present = rewards.take(order), np.full(num_prompts, n)
        if keys is not None:
            values, present, places = merge_texts(values, keys.take(order))
            order = order.take(places + starts)
        # The order has used the first n numbers of each seed.
        uniform = draws.uniform(seeds, n, first=n) if options.beta else np.full((num_prompts, n), 0.5)
        variant = Visits if options.maximum == "pass" else VisitsByAcceptance
        visits = variant(values, present, uniform, options.beta, options.num_accepted)
        visits.run()
        valid = np.arange(visits.accepted.shape[1]) < visits.num_accepted[:, None]
        accepted = (order.take((visits.accepted + starts)[valid]) % n).astype(np.int32)
        return Selections(accepted, visits.num_accepted, visits.num_rounds, visits.num_visits)


def merge_texts(rewards: np.ndarray, keys: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Equal texts made one candidate, as a dictionary keyed by text does: first place, last reward.

    Args:
        rewards: [p, n] float64, in the order of visits.
        keys: [p, n] int64 in [0, n), equal where texts are.

    Returns:
        (rewards [p, n] float64 of the distinct texts, -inf behind the last; [p] int64 how many there are;
        [p, n] int64 the place in the given order that each has come from).
    """
    n = rewards.shape[1]
    groups = np.sort(keys * n + np.arange(n), axis=1)  # by text, then by place
    texts, places = groups // n, groups % n
    edge, changes = np.ones((len(rewards), 1), bool), texts[:, 1:] != texts[:, :-1]
    first, last = np.hstack([edge, changes]), np.hstack([changes, edge])
    row = np.nonzero(first)[0]  # a row's texts come in the same order in both
    merged = np.full_like(rewards, -np.inf)
    merged[row, places[first]] = rewards[row, places[last]]
    packed = np.argsort(merged == -np.inf, axis=1, kind="stable")
    return np.take_along_axis(merged, packed, axis=1), first.sum(axis=1), packed
