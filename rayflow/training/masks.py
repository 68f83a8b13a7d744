"""Who sees whom in a row that holds a prompt and its responses as branches: as a table, and in blocks.

A token sees the tokens before it, and itself, in the prompt and in its own branch. The table has a number for each
two positions of a row. FlexAttention's block mask keeps what it needs of it: which blocks of 128 x 128 have
anything to see, and the rule for those that are mixed; what lies between two branches is then never computed.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch
    from torch.nn.attention.flex_attention import BlockMask

BLOCK = 128
"""Positions of a block, FlexAttention's own default."""


def branch_mask(branches: torch.Tensor) -> torch.Tensor:
    """The table: [b, 1, t, t] bool, query before key, of `Batch.branches` [b, t].

    A padding position (branch -1) sees itself, because a row without any visible key is NaN in some kernels.
    """
    query, key = branches[:, :, None], branches[:, None, :]
    return ((key == 0) | (key == query)).tril().unsqueeze(1)


def block_mask(branches: torch.Tensor, block: int = BLOCK) -> BlockMask:
    """The same in blocks, on the device of `branches` [b, t]. On a GPU it is made by a compiled kernel."""
    from torch.nn.attention.flex_attention import create_block_mask

    def sees(row: torch.Tensor, head: torch.Tensor, query: torch.Tensor, key: torch.Tensor) -> torch.Tensor:
        whose = branches[row, key]
        return (key <= query) & ((whose == 0) | (whose == branches[row, query]))

    rows, width = branches.shape
    return create_block_mask(
        sees, rows, None, width, width, branches.device, BLOCK_SIZE=block, _compile=branches.is_cuda
    )
