"""How groups become rows of tokens: which layout a model allows and which one is cheaper.

Works on lengths and the model's configuration only, without torch and without tokens.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from rayflow.core.branches import SHARED_FAMILIES, why_not_shared
from rayflow.errors import DataError, ModelError
from rayflow.training.groups import GroupLengths
from rayflow.training.pack import Branches

_log = logging.getLogger(__name__)


def has_plain_head(config: Any) -> bool:
    """Whether the logits are exactly the output embeddings applied to the last hidden state."""
    return config.model_type in SHARED_FAMILIES


def lengths_of(groups: Sequence[Branches]) -> GroupLengths:
    """Sizes of groups in memory; they have no pairs yet."""
    sizes = [[len(r) for r in responses] for _, responses in groups]
    columns = [
        [len(prompt) for prompt, _ in groups],
        [len(s) for s in sizes],
        [sum(s) for s in sizes],
        [max(s, default=0) for s in sizes],
        [0] * len(groups),
    ]
    return GroupLengths(*np.asarray(columns, dtype=np.int64))


@dataclass(frozen=True)
class Layout:
    """The rows that each group takes in a forward pass.

    Attributes:
        shared: one row per group (the prompt computed once), else one row per response.
        rows: [g] int64, rows of each group.
        width: [g] int64, tokens of a group's longest row.
    """

    shared: bool
    rows: np.ndarray
    width: np.ndarray

    @classmethod
    def choose(cls, config: Any, lengths: GroupLengths, share_prompt: str | bool) -> Layout:
        """The layout for a model and a data set.

        Args:
            config: the model's transformers configuration.
            lengths: sizes of the groups.
            share_prompt: "auto", True or False (see `TrainOptions`).

        Raises:
            DataError: a prompt with its longest response does not fit the model's context.
            ModelError: `share_prompt` is True and the model does not allow it.
        """
        _check_context(config, lengths)
        shared = cls(True, np.ones_like(lengths.prompt), lengths.prompt + lengths.response_total)
        single = cls(False, lengths.num_responses, lengths.prompt + lengths.response_max)
        if share_prompt is False:
            return single
        reason = why_not_shared(config)
        if reason is None:
            cheaper = shared.cost(config) <= single.cost(config)
            return shared if cheaper or share_prompt is True else single
        if share_prompt is True:
            raise ModelError(f"share_prompt: true cannot be used: {reason}. Set it to auto or false.")
        _log.warning("Every response is computed with its own copy of the prompt (slower): %s.", reason)
        return single

    def cost(self, config: Any) -> float:
        """Multiply-adds of a forward pass over all groups, up to a constant: linear layers and attention.

        Sharing saves the prompts' linear layers, but its dense mask also pays for the blocks between
        branches, so long responses to short prompts are cheaper apart.
        """
        size, depth = config.hidden_size, config.num_hidden_layers
        inner = getattr(config, "intermediate_size", 4 * size)
        linear = depth * (4 * size * size + 3 * size * inner)
        attention = depth * 2 * size
        rows, width = self.rows.astype(np.float64), self.width.astype(np.float64)
        return float((rows * width * (linear + attention * width)).sum())

    def padded_tokens(self, members: Sequence[int]) -> int:
        """Tokens of one batch with these groups, padding included."""
        chosen = np.asarray(members, dtype=np.int64)
        return int(self.rows[chosen].sum() * self.width[chosen].max(initial=0))

    def micro_batches(self, members: Iterable[int], budget: int) -> list[list[int]]:
        """Split groups into batches of similar length whose padded size stays within `budget` tokens.

        A group that is longer than the budget is a batch of its own.
        """
        batches: list[list[int]] = []
        for index in sorted(members, key=lambda i: (-int(self.width[i]), i)):
            if batches and self.padded_tokens([*batches[-1], index]) <= budget:
                batches[-1].append(index)
            else:
                batches.append([index])
        return batches


def _check_context(config: Any, lengths: GroupLengths) -> None:
    # Branches restart at the prompt's end, so what counts is the longest position, not the row's length.
    limit = getattr(config, "max_position_embeddings", None)
    longest = lengths.prompt + lengths.response_max
    if limit is None or not (longest > limit).any():
        return
    worst = int(longest.argmax())
    raise DataError(
        f"{int((longest > limit).sum())} of {len(longest)} groups are longer than the model's context of "
        f"{limit} tokens; the longest (number {worst}) has {lengths.prompt[worst]} prompt tokens and a response "
        f"of {lengths.response_max[worst]}. Shorten max_tokens or drop long prompts before sampling."
    )
