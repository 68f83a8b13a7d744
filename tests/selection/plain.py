"""Algorithm 1 as one would write it down for one prompt, in plain Python: oracle and yardstick.

Nothing here is shared with the vectorised rule, down to the random numbers.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from random import Random
from typing import NamedTuple


class Chosen(NamedTuple):
    """Accepted candidate indices in acceptance order, passes, and accept-or-reject visits."""

    accepted: list[int]
    num_rounds: int
    num_visits: int


def plain_selection(
    rewards: Sequence[float],
    random: Random,
    *,
    beta: float,
    num_accepted: int,
    shuffle: bool = True,
    maximum: str = "pass",
    texts: Sequence[object] | None = None,
) -> Chosen:
    """Visit the candidates in order, pass after pass, until enough are accepted; equal `texts` leave together."""
    texts = range(len(rewards)) if texts is None else texts
    remaining = list(range(len(rewards)))
    if shuffle:
        random.shuffle(remaining)
    accepted: list[int] = []
    num_rounds = num_visits = 0
    while remaining and len(accepted) < num_accepted:
        num_rounds += 1
        best = max([rewards[i] for i in remaining])
        taken: set[object] = set()
        for i in remaining:
            if texts[i] in taken:
                continue
            num_visits += 1
            gap = rewards[i] - best
            probability = math.exp(gap / beta) if beta else float(gap == 0)
            if random.random() < probability:
                accepted.append(i)
                taken.add(texts[i])
                if len(accepted) == num_accepted:
                    break
                if maximum == "acceptance":
                    best = max((rewards[j] for j in remaining if texts[j] not in taken), default=best)
        remaining = [i for i in remaining if texts[i] not in taken]
    return Chosen(accepted, num_rounds, num_visits)


def plain_text_keyed(texts: Sequence[str], rewards: Sequence[float], random: Random, **settings) -> list[str]:
    """The printed code's dictionary of text to reward, and the texts that it accepts."""
    rewards_of = dict(zip(texts, rewards, strict=True))
    keys = list(rewards_of)
    chosen = plain_selection([rewards_of[key] for key in keys], random, shuffle=False, **settings)
    return [keys[i] for i in chosen.accepted]
