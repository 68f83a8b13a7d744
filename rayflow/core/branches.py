"""One row of tokens that forks: a prompt, computed once, and the branches that continue it.

    tokens     [ prompt | branch 1 | branch 2 | ... | next prompt | ... ]
    positions    0..P-1   P..P+R_1-1   P..P+R_2-1                          each branch continues the prompt
    attention    a token sees its prompt and its own branch up to itself, nothing else

The row gives the numbers of one sequence per branch (prefix sharing, arXiv:2410.20305) for P + R_1 + .. + R_n
tokens instead of n P + R_1 + .. + R_n, and without padding. Its attention is `core.branch_attention`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    import torch

SHARED_FAMILIES = frozenset(
    {"llama", "mistral", "qwen2", "qwen3", "gemma", "gpt_neox", "olmo2", "phi3", "smollm3"}
)
"""Model types for which tests show that a shared prompt gives the one-response-at-a-time numbers."""

_ROPE_BY_LENGTH = ("dynamic", "longrope")

KEYS_AT_ONCE = 8192
"""Keys of one attention call: enough for large kernels, few enough to pad little and to stay in the cache."""

Memory = dict[int, tuple["torch.Tensor", "torch.Tensor"]]
"""Keys and values [heads, P, d] of one prompt by layer, for further rows with branches of the same prompt."""


def why_not_shared(config: Any, longest: int) -> str | None:
    """Why a model cannot compute a prompt once for several branches, or None if it can.

    Args:
        config: the model's transformers configuration.
        longest: tokens of the longest prompt with one of its responses.
    """
    if config.model_type not in SHARED_FAMILIES:
        known = ", ".join(sorted(SHARED_FAMILIES))
        return f"model family '{config.model_type}' is not among the tested ones ({known})"
    window = sliding_window(config)
    if window is not None and window < longest:
        return (
            f"the model attends through a sliding window of {window} tokens, which branches behind a shared "
            f"prompt do not have, and the longest sequence has {longest}"
        )
    if getattr(config, "is_causal", True) is False:
        return "the model's tokens see what follows them"
    if (getattr(config, "rope_parameters", None) or {}).get("rope_type") in _ROPE_BY_LENGTH:
        return "the model's position encoding depends on the longest sequence that is read together"
    return None


def sliding_window(config: Any) -> int | None:
    """Tokens that a layer looks back at most; None where every layer sees all."""
    layers = getattr(config, "layer_types", None)
    used = "sliding_attention" in layers if layers else getattr(config, "use_sliding_window", True)
    return getattr(config, "sliding_window", None) if used else None


def common_prefix(sequences: Sequence[Sequence[int]]) -> int:
    """How many ids all sequences begin with, less than any one's length; 0 for a single sequence."""
    if len(sequences) < 2:
        return 0
    low, high = min(sequences), max(sequences)  # what the extremes of an ordering share, all between share
    limit = min(map(len, sequences)) - 1
    return next((i for i in range(limit) if low[i] != high[i]), limit)


@dataclass(frozen=True)
class Block:
    """Branches of one prompt that attend in one call, padded to the longest of them.

    Attributes:
        places: [m, r] int64, each token's place in the row; padding repeats the branch's last one.
        mask: [r, P + r] bool, which of the prompt and of its own branch a token sees. The same for all:
            padding stands behind every token that is kept.
    """

    places: torch.Tensor
    mask: torch.Tensor


@dataclass(frozen=True)
class Fork:
    """A prompt with its branches.

    Attributes:
        prompt: the prompt's place in the row; empty if `memory` has it.
        blocks: the branches.
        memory: see `forked_row`.
    """

    prompt: slice
    blocks: tuple[Block, ...]
    memory: Memory | None


@dataclass(frozen=True)
class ForkedRow:
    """The layout of a row of t tokens with n branches, on the model's device.

    Attributes:
        position_ids: [1, t] int64.
        ends: [n] int64, place of the last token of each branch, in the given order.
        forks: the prompts.
        order: [t] int64, where in the pieces that attention computes one after the other each token is.
    """

    position_ids: torch.Tensor
    ends: torch.Tensor
    forks: tuple[Fork, ...]
    order: torch.Tensor


def forked_row(
    groups: Sequence[tuple[int, Sequence[int]]], device: torch.device | str, memory: Memory | None = None
) -> ForkedRow:
    """Lay out prompts, each followed by its branches.

    Args:
        groups: tokens of a prompt, which may be 0, and of each of its branches, 1 or more.
        device: where the model is.
        memory: of the row's only prompt. An empty one is filled by the row; with one that is filled, the row
            holds the branches alone.
    """
    import torch

    def tensor(values: Any) -> torch.Tensor:
        return torch.from_numpy(np.asarray(values, np.int64)).to(device)

    forks, pieces, positions, ends, start = [], [], [], [], 0
    for size, lengths in groups:
        held = 0 if memory else size
        borders = list(accumulate(lengths, initial=start + held))
        places = list(_padded_places(size, lengths, borders))
        blocks = tuple(Block(tensor(p), _sees(size, p.shape[1], device)) for p in places)
        forks.append(Fork(slice(start, start + held), blocks, memory))
        pieces += [np.arange(start, start + held), *[p.ravel() for p in places]]
        positions += [np.arange(held), *[np.arange(size, size + n) for n in lengths]]
        ends += [border - 1 for border in borders[1:]]
        start = borders[-1]
    # The first of equal places is the token itself, the others are padding.
    order = np.unique(np.concatenate(pieces), return_index=True)[1]
    return ForkedRow(tensor(np.concatenate(positions))[None], tensor(ends), tuple(forks), tensor(order))


def _padded_places(size: int, lengths: Sequence[int], starts: Sequence[int]) -> Iterator[np.ndarray]:
    """`Block.places` of branches of similar lengths: [m, r] int64 each."""
    order = sorted(range(len(lengths)), key=lambda i: -lengths[i])
    while order:
        width = lengths[order[0]]
        num = max(1, KEYS_AT_ONCE // (size + width))
        block, order = order[:num], order[num:]
        steps = np.minimum(np.arange(width), np.array([lengths[i] - 1 for i in block])[:, None])
        yield np.array([starts[i] for i in block])[:, None] + steps


def _sees(size: int, width: int, device: torch.device | str) -> torch.Tensor:
    import torch

    every = torch.ones(width, size + width, dtype=torch.bool, device=device)
    return every.tril(diagonal=size)
