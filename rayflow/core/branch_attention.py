"""The attention of a forked row: every prompt's keys and values once, for all of its branches.

A mask over the whole row would compute each branch against all others and throw nearly all of it away. Here the
prompts, stacked, attend to themselves, and the branches, stacked, to their prompts and to themselves.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch

    from rayflow.core.branches import Block, ForkedRow

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
    keys, values = _with_memory(branches, module, key[0], value[0])
    pieces = [
        (_prompts if block.prompts is None else _branches)(attend, query[0], keys, values, block)
        for block in branches.blocks
    ]
    return torch.cat(pieces)[branches.order][None].to(dtype), None


def _with_memory(
    row: ForkedRow, module: torch.nn.Module, key: torch.Tensor, value: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Keys and values, [g, t, d] of the row, behind those of the prompt that is remembered, if one is."""
    import torch

    if row.memory is None:
        return key, value
    layer: int = module.layer_idx
    if row.remembered:
        before = row.memory[layer]
        return torch.cat([before[0], key], dim=1), torch.cat([before[1], value], dim=1)
    size = row.prompt
    row.memory[layer] = key[:, :size].clone(), value[:, :size].clone()  # a view would keep the whole row
    return key, value


def _prompts(
    attend: Attend, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, block: Block
) -> torch.Tensor:
    """Attention of m sequences to themselves: [m r, h, d]."""
    places = block.queries, block.own, block.own
    one = (each[:, at].transpose(0, 1) for each, at in zip((query, key, value), places, strict=True))
    found = attend(*one, is_causal=True, enable_gqa=len(query) != len(key))  # [m, h, r, d]
    return found.transpose(1, 2).flatten(0, 1)


def _branches(
    attend: Attend, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, block: Block
) -> torch.Tensor:
    """Attention of m branches to their prompts and to themselves: [m r, h, d].

    The queries that share a key (grouped queries) are stacked, so that no key is repeated for them.
    """
    width = block.queries.shape[1]
    grouped = query[:, block.queries].unflatten(0, (len(key), -1))  # [g, h / g, m, r, d]
    stacked = grouped.permute(2, 0, 1, 3, 4).flatten(2, 3)  # [m, g, h / g r, d]
    keys, values = (_seen(each, block) for each in (key, value))
    mask = block.mask.repeat(1, grouped.shape[1], 1)[:, None]
    found = attend(stacked, keys, values, attn_mask=mask)
    apart = found.unflatten(2, (-1, width)).permute(0, 3, 1, 2, 4)  # [m, r, g, h / g, d]
    return apart.flatten(2, 3).flatten(0, 1)


def _seen(states: torch.Tensor, block: Block) -> torch.Tensor:
    """Of keys or values [g, t, d] those of each branch's prompt and of itself: [m, g, s + r, d]."""
    import torch

    own = states[:, block.own].transpose(0, 1)
    prompts = states[:, block.prompts].transpose(0, 1)  # [p, g, s, d]
    alone = len(prompts) == 1  # needs no copy for each of its branches
    seen = prompts.expand(len(own), -1, -1, -1) if alone else prompts.index_select(0, block.whose)
    return torch.cat([seen, own], dim=2)
