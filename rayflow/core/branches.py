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
    """Sequences of one row that attend in one call, padded to the longest of them: prompts, or branches.

    Attributes:
        queries: [m, r] int64, each token's place in the row; padding repeats the sequence's last one.
        own: [m, r] int64, the same places among the keys: a prompt that is remembered stands before the row's.
        prompts: [p, s] int64, places among the keys of the prompts that branches continue; none for prompts.
        whose: [m] int64, which of these each branch continues.
        mask: [m, r, s + r] bool, which keys of its prompt and of its own branch a token sees, or [1, r, s + r] where
            that is the same for all; padding stands behind every token that is kept. Prompts have none.
    """

    queries: torch.Tensor
    own: torch.Tensor
    prompts: torch.Tensor | None = None
    whose: torch.Tensor | None = None
    mask: torch.Tensor | None = None

    @classmethod
    def of(cls, pieces: Sequence[_Piece], remembered: int) -> Block:
        """Prompts, or branches of prompts, the longest prompt first; `remembered` keys stand before the row's."""
        import torch

        queries = _places([(p.start, p.length) for p in pieces])
        arrays = [queries, queries + remembered]
        if pieces[0].prompt:
            continued = list(dict.fromkeys((p.prompt_start, p.prompt) for p in pieces))
            whose = np.array([continued.index((p.prompt_start, p.prompt)) for p in pieces])
            prompts = _places(continued)
            mask = _sees(np.array([p.prompt for p in pieces]), prompts.shape[1], queries.shape[1])
            arrays += [prompts, whose, mask]
        return cls(*map(torch.from_numpy, arrays))

    def to(self, device: torch.device | str) -> Block:
        """The same block on another device."""
        return Block(*(None if each is None else each.to(device) for each in vars(self).values()))


@dataclass(frozen=True)
class ForkedRow:
    """The layout of a row of t tokens with n branches, on the model's device.

    Attributes:
        position_ids: [1, t] int64.
        ends: [n] int64, place of the last token of each branch, in the given order.
        blocks: what attends together, prompts first.
        order: [t] int64, where in the pieces that attention computes one after the other each token is.
        memory: of the only prompt; see `forked_row`.
        remembered: whether it is in `memory`, and not in the row.
        prompt: its tokens.
    """

    position_ids: torch.Tensor
    ends: torch.Tensor
    blocks: tuple[Block, ...]
    order: torch.Tensor
    memory: Memory | None
    remembered: bool
    prompt: int


@dataclass(frozen=True)
class _Piece:
    """A prompt or a branch: its first place in the row and its tokens; of a branch also its prompt's."""

    start: int
    length: int
    prompt_start: int = 0
    prompt: int = 0


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

    remembered = groups[0][0] if memory else 0
    prompts, branches, positions, start = [], [], [], 0
    for size, lengths in groups:
        held = 0 if memory else size
        prompts += [_Piece(start, held)] if held else []
        borders = list(accumulate(lengths, initial=start + held))
        branches += [_Piece(s, n, start, size) for s, n in zip(borders[:-1], lengths, strict=True)]
        positions += [np.arange(held), *[np.arange(size, size + n) for n in lengths]]
        start = borders[-1]
    blocks = [Block.of(chunk, remembered) for chunk in (*_chunks(prompts), *_chunks(branches))]
    # The first of equal places is the token itself, the others are padding.
    order = np.unique(np.concatenate([b.queries.numpy().ravel() for b in blocks]), return_index=True)[1]
    ends = np.array([piece.start + piece.length - 1 for piece in branches], dtype=np.int64)
    return ForkedRow(
        position_ids=torch.from_numpy(np.concatenate(positions)[None]).to(device),
        ends=torch.from_numpy(ends).to(device),
        blocks=tuple(block.to(device) for block in blocks),
        order=torch.from_numpy(order).to(device),
        memory=memory,
        remembered=remembered > 0,
        prompt=groups[0][0],
    )


def _chunks(pieces: Sequence[_Piece]) -> Iterator[list[_Piece]]:
    """Pieces of like lengths, those of one prompt together, of `KEYS_AT_ONCE` keys with padding at most."""
    chunk: list[_Piece] = []
    longest = 0  # of the chunk's pieces; the first one's prompt is the longest
    for piece in sorted(pieces, key=lambda p: (-p.prompt, p.prompt_start, -p.length)):
        if chunk and (len(chunk) + 1) * (chunk[0].prompt + max(longest, piece.length)) > KEYS_AT_ONCE:
            yield chunk
            chunk, longest = [], 0
        chunk.append(piece)
        longest = max(longest, piece.length)
    if chunk:
        yield chunk


def _sees(prompts: np.ndarray, longest: int, width: int) -> np.ndarray:
    """`Block.mask` of branches of `width` tokens, whose prompts [m] have at most `longest`."""
    if prompts[0] == prompts[-1]:  # the longest first, so all are alike
        prompts = prompts[:1]
    shape = len(prompts), width
    of_prompt = np.broadcast_to(np.arange(longest) < prompts[:, None, None], (*shape, longest))
    of_itself = np.broadcast_to(np.tri(width, dtype=bool), (*shape, width))
    return np.concatenate([of_prompt, of_itself], axis=2)


def _places(pieces: Sequence[tuple[int, int]]) -> np.ndarray:
    """[m, longest] int64, the places of each piece (first place, length), the last one repeated behind it."""
    starts, lengths = np.array(pieces, dtype=np.int64).T
    return starts[:, None] + np.minimum(np.arange(lengths.max()), np.maximum(lengths - 1, 0)[:, None])
