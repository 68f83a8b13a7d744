"""Who sees whom in a row of prompts and branches (`core.branches`), in blocks for FlexAttention.

A token sees the tokens before it, and itself, in its prompt and in its own branch. The block mask keeps which
blocks of 128 x 128 have anything to see, and the rule for those that are mixed; what lies between two branches is
then never computed.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import count
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import torch
    from torch.nn.attention.flex_attention import BlockMask

BLOCK = 128
"""Positions of a block, FlexAttention's own default."""


def block_mask(
    forks: Sequence[tuple[int, Sequence[int]]], device: torch.device | str, block: int = BLOCK
) -> BlockMask:
    """The mask of one row. On a GPU it is made by a compiled kernel.

    Args:
        forks: tokens of each prompt and of its branches, as they follow each other in the row.
        device: where the model is.
        block: positions of a block.
    """
    import torch
    from torch.nn.attention.flex_attention import create_block_mask

    own, prompt = (torch.from_numpy(ids).to(device) for ids in _pieces(forks))

    def sees(row: torch.Tensor, head: torch.Tensor, query: torch.Tensor, key: torch.Tensor) -> torch.Tensor:
        return (key <= query) & ((own[key] == own[query]) | (own[key] == prompt[query]))

    on_gpu = own.is_cuda
    return create_block_mask(sees, 1, None, len(own), len(own), device, BLOCK_SIZE=block, _compile=on_gpu)


def _pieces(forks: Sequence[tuple[int, Sequence[int]]]) -> tuple[np.ndarray, np.ndarray]:
    """Of each token of the row, the number of its prompt or branch, and that of its prompt: [t] int64 each."""
    number, own, prompt = count(), [], []
    for size, lengths in forks:
        first = next(number)
        own += [np.full(size, first), *[np.full(length, next(number)) for length in lengths]]
        prompt.append(np.full(size + sum(lengths), first))
    return np.concatenate(own), np.concatenate(prompt)
