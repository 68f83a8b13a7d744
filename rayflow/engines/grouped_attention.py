"""Attention of one new token per row, where several query heads share a key (grouped queries).

As soon as there is a mask, transformers copies every cached key and value for each of the query heads that share
it: in every layer, for every token. Here these heads stand as the rows of one block, and nothing is copied.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch

NAME = "rayflow_grouped"
"""Name of this attention in transformers."""


def use_grouped_attention(model: Any) -> None:
    """Let a transformers model that attends by SDPA do so for single tokens; others stay as they are."""
    from transformers import AttentionInterface, AttentionMaskInterface
    from transformers.masking_utils import sdpa_mask

    if model.config._attn_implementation == "sdpa":
        AttentionInterface.register(NAME, grouped_attention)
        AttentionMaskInterface.register(NAME, sdpa_mask)
        model.set_attn_implementation(NAME)


def grouped_attention(
    module: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    *,
    scaling: float | None = None,
    **kwargs: Any,
) -> tuple[torch.Tensor, None]:
    """What transformers calls in every layer, with rotated queries and keys.

    Args:
        module: the layer's attention.
        query: [b, h, t, d]; with t > 1 transformers' own SDPA goes on.
        key: [b, g, s, d], g dividing h.
        value: [b, g, s, d].
        attention_mask: [b, 1, t, s], or none; with one for each head transformers' own SDPA goes on.
        scaling: of the scores; None is 1 / sqrt(d).
        **kwargs: what else transformers passes.

    Returns:
        [b, t, h, d], and no weights.
    """
    from torch.nn.functional import scaled_dot_product_attention
    from transformers.integrations.sdpa_attention import sdpa_attention_forward

    one_mask = attention_mask is None or attention_mask.shape[1] == 1  # for all heads
    plain = kwargs.get("position_bias") is None and kwargs.get("cache") is None and one_mask
    if query.shape[2] > 1 or query.shape[1] == key.shape[1] or not plain:
        return sdpa_attention_forward(module, query, key, value, attention_mask, scaling=scaling, **kwargs)
    rows = query[:, :, 0].unflatten(1, (key.shape[1], -1))  # [b, g, h / g, d]
    found = scaled_dot_product_attention(rows, key, value, attn_mask=attention_mask, scale=scaling)
    return found.flatten(1, 2)[:, None], None
