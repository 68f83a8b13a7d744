"""How groups become rows of tokens: which layout a model allows, which one is cheaper, what one pass holds.

Works on lengths and the model's configuration only, without torch and without tokens.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from rayflow.core.branches import SHARED_FAMILIES, why_not_shared
from rayflow.errors import DataError, ModelError
from rayflow.training.groups import GroupLengths
from rayflow.training.pack import HEAD_TOKENS, Branches

_log = logging.getLogger(__name__)

MOST_PADDING = 0.1
"""Of a pass with several groups: padded tokens at most, as a share of the others."""


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
    flat = np.array([length for s in sizes for length in s], dtype=np.int32)
    return GroupLengths(*np.asarray(columns, dtype=np.int64), flat)


@dataclass(frozen=True)
class MicroBatch:
    """What one forward pass holds: whole groups, or a part of one group that is longer than the budget.

    Attributes:
        groups: indices of the groups.
        part: of the only group, which responses; None: all responses of all groups.
    """

    groups: tuple[int, ...]
    part: tuple[int, ...] | None = None

    def branches(self, read: Callable[[int], Branches]) -> list[Branches]:
        """What `pack` lays out; `read` gives a group's prompt and responses."""
        found = [read(index) for index in self.groups]
        if self.part is None:
            return found
        ((prompt, responses),) = found
        return [(prompt, [responses[i] for i in self.part])]


@dataclass(frozen=True)
class Layout:
    """The rows that each group takes in a forward pass.

    Attributes:
        shared: the prompt of each group computed once, all groups in one row without padding; else one padded
            row per response.
        lengths: sizes of the groups.
    """

    shared: bool
    lengths: GroupLengths

    @cached_property
    def rows(self) -> np.ndarray:
        """[g] int64, sequences of each group."""
        return np.ones_like(self.lengths.prompt) if self.shared else self.lengths.num_responses

    @cached_property
    def width(self) -> np.ndarray:
        """[g] int64, tokens of a group's longest sequence."""
        own = self.lengths.response_total if self.shared else self.lengths.response_max
        return self.lengths.prompt + own

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
        longest = _check_context(config, lengths)
        if share_prompt is False:
            return cls(False, lengths)
        reason = why_not_shared(config, longest)
        if reason is None:
            return cls(share_prompt is True or bool((lengths.num_responses > 1).any()), lengths)
        if share_prompt is True:
            raise ModelError(f"share_prompt: true cannot be used: {reason}. Set it to auto or false.")
        _log.info("Every response is computed with its own copy of the prompt (slower): %s.", reason)
        return cls(False, lengths)

    def padded_tokens(self, batch: MicroBatch) -> int:
        """Tokens of one forward pass, padding included."""
        if batch.part is not None:
            (index,) = batch.groups
            lengths = self.lengths.responses_of(index)
            return self._tokens(int(self.lengths.prompt[index]), [lengths[i] for i in batch.part])
        chosen = np.asarray(batch.groups, dtype=np.int64)
        if self.shared:
            return int(self.width[chosen].sum())
        return int(self.rows[chosen].sum() * self.width[chosen].max(initial=0))

    def head_chunks(self, batch: MicroBatch) -> int:
        """In how many pieces the logits of a forward pass are computed, `HEAD_TOKENS` at most in each."""
        if batch.part is None:
            tokens = int(self.lengths.response_total[list(batch.groups)].sum())
        else:
            (index,) = batch.groups
            lengths = self.lengths.responses_of(index)
            tokens = sum(lengths[i] for i in batch.part)
        return max(1, math.ceil(tokens / HEAD_TOKENS))

    def _tokens(self, prompt: int, responses: Sequence[int]) -> int:
        """Tokens of a prompt with some of its responses."""
        return prompt + sum(responses) if self.shared else len(responses) * (prompt + max(responses))

    def micro_batches(self, members: Iterable[int], budget: int) -> list[MicroBatch]:
        """Split groups into passes of similar length whose padded size stays within `budget` tokens.

        A pass ends before padding would add more than `MOST_PADDING` to it: another pass costs less than computing
        padding, and workers whose shares are of equal tokens take equally long only without it.

        A group that is longer is split by response, each part with its own copy of the prompt. A response that
        is longer with its prompt alone is a pass of its own.
        """
        batches: list[list[int]] = []
        parts: list[MicroBatch] = []
        for index in sorted(members, key=lambda i: (-int(self.width[i]), i)):
            if self.rows[index] * self.width[index] > budget and self.lengths.num_responses[index] > 1:
                parts += self._parts(index, budget)
            elif batches and self._fits([*batches[-1], index], budget):
                batches[-1].append(index)
            else:
                batches.append([index])
        return parts + [MicroBatch(tuple(groups)) for groups in batches]

    def _fits(self, groups: Sequence[int], budget: int) -> bool:
        """Whether groups make one pass: within the budget, and with little padding."""
        padded = self.padded_tokens(MicroBatch(tuple(groups)))
        own = int((self.rows[groups] * self.width[groups]).sum())
        return padded <= min(budget, (1 + MOST_PADDING) * own)

    def _parts(self, index: int, budget: int) -> list[MicroBatch]:
        """The parts of one group: longest response first, each into the first part that has room."""
        prompt, lengths = int(self.lengths.prompt[index]), self.lengths.responses_of(index)
        parts: list[list[int]] = []
        for i in sorted(range(len(lengths)), key=lambda i: (-lengths[i], i)):
            room = (p for p in parts if self._tokens(prompt, [lengths[j] for j in (*p, i)]) <= budget)
            part = next(room, None)
            if part is None:
                parts.append([i])
            else:
                part.append(i)
        return [MicroBatch((index,), tuple(sorted(part))) for part in parts]


def _check_context(config: Any, lengths: GroupLengths) -> int:
    """Tokens of the longest prompt with one of its responses, if the model's context holds them."""
    # Branches restart at the prompt's end, so what counts is the longest position, not the row's length.
    limit = getattr(config, "max_position_embeddings", None)
    longest = lengths.prompt + lengths.response_max
    if limit is None or not (longest > limit).any():
        return int(longest.max(initial=0))
    worst = int(longest.argmax())
    raise DataError(
        f"{int((longest > limit).sum())} of {len(longest)} groups are longer than the model's context of "
        f"{limit} tokens; the longest (number {worst}) has {lengths.prompt[worst]} prompt tokens and a response "
        f"of {lengths.response_max[worst]}. Shorten max_tokens or drop long prompts before sampling."
    )
