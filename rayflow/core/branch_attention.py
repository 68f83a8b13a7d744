"""The attention of a forked row: every prompt's keys and values once, for all of its branches.

A mask over the whole row would compute each branch against all others and throw nearly all of it away. Here a
prompt attends to itself, and its branches, stacked, to the prompt and to themselves.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch

    from rayflow.core.branches import Block, Fork, ForkedRow

Attend = Callable[..., "torch.Tensor"]

NAME = "rayflow_branches"
"""Name of this attention in transformers."""


def use_branch_attention(model: Any) -> None:
    """Let a transformers model of a shared family attend to forked rows, and to nothing else.

    Its base model is then called with `input_ids` [1, t], the row's `position_ids` and `branches`, the row.
    """
    from transformers import AttentionInterface

    AttentionInterface.register(NAME, branch_attention)
    _set_attention(model, NAME)


def leave_branch_attention(model: Any) -> None:
    """Let the model attend to padded rows again, as transformers does; nothing happens if it does so already."""
    if model.config._attn_implementation == NAME:
        _set_attention(model, "sdpa")


def _set_attention(model: Any, name: str) -> None:
    if model.config._attn_implementation != name:  # setting it goes through all modules
        model.set_attn_implementation(name)


def branch_attention(
    module: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: None,
    *,
    branches: ForkedRow,
    scaling: float | None = None,
    dropout: float = 0.0,
    **kwargs: Any,
) -> tuple[torch.Tensor, None]:
    """What transformers calls in every layer, with rotated queries and keys.

    Args:
        module: the layer's attention; its `layer_idx` names it in a prompt's memory.
        query: [1, h, t, d].
        key: [1, g, t, d], g dividing h (grouped queries).
        value: [1, g, t, d].
        attention_mask: none, the row says who sees whom.
        branches: the row.
        scaling: of the scores; None is 1 / sqrt(d).
        dropout: of the attention weights.
        **kwargs: what transformers passes to other implementations.

    Returns:
        [1, t, h, d], and no weights.
    """
    import torch
    from torch.nn.functional import scaled_dot_product_attention

    attend = partial(scaled_dot_product_attention, scale=scaling, dropout_p=dropout)
    dtype = query.dtype
    if query.device.type == "cpu":
        # torch's bfloat16 kernels take as long forwards, and two to four times as long backwards, on such small blocks.
        query, key, value = query.float(), key.float(), value.float()
    pieces = []
    for fork in branches.forks:
        if fork.prompt.stop > fork.prompt.start:
            pieces.append(_prompt(attend, query, key, value, fork.prompt))
        seen = _seen_by_all(fork, module, key[0], value[0])
        pieces += [_block(attend, query[0], key[0], value[0], seen, block) for block in fork.blocks]
    return torch.cat(pieces)[branches.order][None].to(dtype), None


def _prompt(
    attend: Attend, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, place: slice
) -> torch.Tensor:
    """A prompt's attention to itself: [P, h, d]."""
    one = query[:, :, place], key[:, :, place], value[:, :, place]
    found = attend(*one, is_causal=True, enable_gqa=query.shape[1] != key.shape[1])
    return found[0].transpose(0, 1)


def _seen_by_all(
    fork: Fork, module: torch.nn.Module, key: torch.Tensor, value: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Keys and values of the prompt, [g, P, d] each, from the row or from its memory."""
    if fork.memory is None:
        return key[:, fork.prompt], value[:, fork.prompt]
    layer: int = module.layer_idx
    if layer not in fork.memory:  # copies, because a view would keep the whole row
        fork.memory[layer] = key[:, fork.prompt].clone(), value[:, fork.prompt].clone()
    return fork.memory[layer]


def _block(
    attend: Attend,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    seen: tuple[torch.Tensor, torch.Tensor],
    block: Block,
) -> torch.Tensor:
    """Attention of m branches to the prompt and to themselves: [m r, h, d].

    The queries that share a key (grouped queries) are stacked, so that no key is repeated for them.
    """
    import torch

    num, width = block.places.shape
    grouped = query[:, block.places].unflatten(0, (len(key), -1))  # [g, h / g, m, r, d]
    stacked = grouped.permute(2, 0, 1, 3, 4).flatten(2, 3)  # [m, g, h / g r, d]
    keys, values = (
        torch.cat([shared.expand(num, -1, -1, -1), own[:, block.places].transpose(0, 1)], dim=2)
        for shared, own in zip(seen, (key, value), strict=True)
    )
    found = attend(stacked, keys, values, attn_mask=block.mask.repeat(grouped.shape[1], 1))
    apart = found.unflatten(2, (-1, width)).permute(0, 3, 1, 2, 4)  # [m, r, g, h / g, d]
    return apart.flatten(2, 3).flatten(0, 1)
