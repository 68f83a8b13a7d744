"""What a selection rule returns for a batch of prompts, and how a large batch is worked through."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from rayflow.core.memory import keep_freed_memory

BLOCK_ELEMENTS = 1 << 16
"""Candidates that are worked on together: arrays of this size stay near the core, and their number stays small."""


@dataclass(frozen=True)
class Selections:
    """Outcomes for p prompts.

    Attributes:
        accepted: [sum of num_accepted] int32 candidate indices, prompt after prompt; those of one prompt are
            distinct and in acceptance order.
        num_accepted: [p] int64, how many of them belong to each prompt.
        num_rounds: [p] int64, passes over the remaining candidates.
        num_visits: [p] int64, acceptance decisions made; acceptance rate = num_accepted / num_visits.
    """

    accepted: np.ndarray
    num_accepted: np.ndarray
    num_rounds: np.ndarray
    num_visits: np.ndarray

    def __len__(self) -> int:
        return len(self.num_accepted)

    def per_prompt(self) -> list[np.ndarray]:
        """The accepted indices of each prompt, as views."""
        ends = np.cumsum(self.num_accepted).tolist()
        return [self.accepted[begin:end] for begin, end in zip([0, *ends], ends, strict=False)]


def at_once(chosen: np.ndarray, num_visits: int) -> Selections:
    """Outcomes of a rule that decides in one round and accepts equally many of every prompt.

    Args:
        chosen: [p, k] candidate indices, in acceptance order.
        num_visits: candidates that it looked at, per prompt.
    """
    num_prompts, k = chosen.shape
    return Selections(
        accepted=np.ascontiguousarray(chosen, np.int32).reshape(-1),
        num_accepted=np.full(num_prompts, k, np.int64),
        num_rounds=np.ones(num_prompts, np.int64),
        num_visits=np.full(num_prompts, num_visits, np.int64),
    )


def concatenate(parts: Sequence[Selections]) -> Selections:
    """One batch after the other."""
    names = ("accepted", "num_accepted", "num_rounds", "num_visits")
    return Selections(*(np.concatenate([getattr(part, name) for part in parts]) for name in names))


def in_blocks(select: Callable[..., Selections], rewards: np.ndarray, *columns: np.ndarray) -> Selections:
    """`select` on blocks of rows of `rewards` [p, n] and of the other columns [p, ...], joined again.

    Rows are independent of each other, so this changes the speed and nothing else.
    """
    keep_freed_memory()  # a block of a few megabytes is freed and taken again at every step
    num_rows, n = rewards.shape
    size = max(1, BLOCK_ELEMENTS // max(1, n))
    starts = range(0, max(1, num_rows), size)
    blocks = ([column[i : i + size] for column in (rewards, *columns)] for i in starts)
    return concatenate([select(*block) for block in blocks])
