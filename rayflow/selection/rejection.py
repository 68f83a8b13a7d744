"""Statistical rejection sampling, the selection rule of the RSO paper.

Row in: the rewards of one prompt's candidates. Row out: the indices of those accepted, whose law approaches
pi_r(y|x) = pi_sft(y|x) exp(r(x,y)/beta) / Z(x) as the number of candidates grows.

Source: Liu et al., "Statistical Rejection Sampling Improves Preference Optimization", arXiv:2309.06657,
Eq 4, Theorem 1 and Algorithm 1.
"""

from __future__ import annotations

import numpy as np
from pydantic import Field

from rayflow.core.options import KindOptions
from rayflow.selection.base import Selection
from rayflow.selection.checks import finite


class RejectionSampling:
    """Algorithm 1 over candidate indices.

    Two departures from the printed code, which keys candidates by their text: a text that was sampled twice
    counts twice (only then is the outcome distributed as pi_r), and where there are fewer candidates than
    `num_accepted`, all are returned instead of an endless loop; the caller sees the shortfall.
    """

    class Config(KindOptions):
        """Settings of `rejection`; the defaults are the paper's (section 4).

        Attributes:
            beta: temperature of the target pi_r, in units of the reward. 0 takes the highest rewards
                (num_accepted=1: best of n); a large value takes the first candidates whatever their reward.
            num_accepted: responses to accept per prompt.
            shuffle: visit the candidates in a random order of the row's own. The law for a finite number
                of candidates depends on the order, so turn it off only to reproduce the printed code.
        """

        kind: str = "rejection"
        beta: float = Field(default=0.5, ge=0, allow_inf_nan=False)
        num_accepted: int = Field(default=8, gt=0)
        shuffle: bool = True

    def __init__(self, options: Config) -> None:
        self.options = options

    def select(self, rewards: np.ndarray, rng: np.random.Generator) -> Selection:
        """Choose candidates of one prompt (see `selection.base.Selector`).

        Args:
            rewards: [n] float64, finite.
            rng: the row's own generator.

        Raises:
            ValueError: a reward is not finite.
        """
        rewards = np.asarray(rewards, dtype=np.float64)
        order = rng.permutation(len(rewards)) if self.options.shuffle else np.arange(len(rewards))
        return rejection_sample(rewards, order, self.options.beta, self.options.num_accepted, rng)


def rejection_sample(
    rewards: np.ndarray, order: np.ndarray, beta: float, num_accepted: int, rng: np.random.Generator
) -> Selection:
    """Algorithm 1: pass over the remaining candidates until enough are accepted.

    A pass fixes the maximum reward of the remaining candidates, visits them in order and accepts each with
    `acceptance_probabilities`. It stops at once when enough are accepted; those accepted leave only at its
    end, those rejected are visited again in the next pass. The best remaining candidate is accepted with
    probability 1, so there are at most `num_accepted` passes.

    Args:
        rewards: [n] float64, finite.
        order: [n] int, the order of visits as candidate indices.
        beta: temperature, >= 0, in units of the reward.
        num_accepted: how many to accept; fewer candidates than that are all accepted.
        rng: source of the acceptance draws, fresh for each visit.

    Raises:
        ValueError: a reward is not finite. NaN passes every comparison as false, so the printed algorithm
            would always accept it.

    Source: arXiv:2309.06657, Algorithm 1.
    """
    rewards = finite(rewards)
    remaining = np.asarray(order)
    accepted: list[np.ndarray] = []
    missing, num_rounds, num_visits = num_accepted, 0, 0
    while missing > 0 and remaining.size > 0:
        probabilities = acceptance_probabilities(rewards[remaining], beta)
        # Draws past the stopping point are discarded unseen: the law is that of one draw per visit.
        hits = np.flatnonzero(rng.random(remaining.size) < probabilities)[:missing]
        missing -= hits.size
        num_rounds += 1
        num_visits += remaining.size if missing else int(hits[-1]) + 1
        accepted.append(remaining[hits])
        remaining = np.delete(remaining, hits)
    indices = np.concatenate([np.empty(0, np.int32), *accepted]).astype(np.int32)
    return Selection(accepted=indices, num_rounds=num_rounds, num_visits=num_visits)


def acceptance_probabilities(rewards: np.ndarray, beta: float) -> np.ndarray:
    """exp((r - max)/beta) for the candidates of one pass; the maximum's own is exactly 1.

    At beta = 0, the limit: 1 for the candidates of maximal reward, 0 for the others, so that successive
    passes take the rewards in descending order, ties in the order of visits.

    Args:
        rewards: [m] float64, finite.
        beta: temperature, >= 0.

    Returns:
        [m] float64 in [0, 1].
    """
    if beta == 0:
        return (rewards == rewards.max()).astype(np.float64)
    with np.errstate(over="ignore"):  # a gap beyond the range of floats is -inf, whose exponential is 0
        return np.exp((rewards - rewards.max()) / beta)
