"""Responses to several prompts as one batch: the decoding loop of the transformers engine.

A prompt is computed once, however many responses it gets; rows that ended leave the batch. Which token a row takes
follows from numbers that are given with it, so not from what else is in the batch.
"""

from __future__ import annotations

import inspect
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from rayflow.engines.base import SamplingOptions
from rayflow.errors import DataError, ModelError

_CACHES = ("past_key_values", "cache_params")
"""What models call their cache."""


@dataclass(frozen=True)
class Decoded:
    """Responses, each from the first token to its EOS; what lies behind has no meaning.

    Attributes:
        tokens: [b, R] int64.
        logprobs: [b, R] float32, nats, under the model's own distribution: neither tempered nor truncated.
        lengths: [b] int64, tokens of each response, EOS included.
    """

    tokens: Tensor
    logprobs: Tensor
    lengths: Tensor


class Decoder:
    """A causal language model that continues prompts.

    Args:
        model: from transformers, on its device, in evaluation mode.
        eos_ids: every id that ends a response.

    Raises:
        ModelError: the model keeps no cache between tokens.
    """

    def __init__(self, model: Any, eos_ids: list[int]) -> None:
        parameters = inspect.signature(model.forward).parameters
        self._cache = next((name for name in _CACHES if name in parameters), "")
        if not self._cache:
            raise ModelError(
                f"{type(model).__name__} keeps no cache between tokens, which the transformers engine needs. Use "
                "the engine vllm."
            )
        self._model = model
        self._eos = torch.tensor(eos_ids, dtype=torch.int64, device=model.device)
        self._takes = {name for name in ("position_ids", "logits_to_keep") if name in parameters}

    @torch.inference_mode()
    def decode(
        self, prompts: list[Tensor], owners: Tensor, uniforms: Tensor, sampling: SamplingOptions
    ) -> Decoded:
        """One response for every row.

        Args:
            prompts: token ids [P_i] int64, P_i >= 1.
            owners: [b] int64, the position of each row's prompt.
            uniforms: [b, R] float64 in [0, 1), R = max_tokens: what each token of each row is drawn with.

        Raises:
            DataError: the model's output is not finite.
        """
        device = self._model.device
        owners, uniforms = owners.to(device), uniforms.to(device)
        tokens = torch.zeros(uniforms.shape, dtype=torch.int64, device=device)
        logprobs = torch.zeros(uniforms.shape, dtype=torch.float32, device=device)
        lengths = torch.zeros(len(owners), dtype=torch.int64, device=device)
        ids, mask = (each.to(device) for each in left_padded(prompts))
        logits, cache = self._forward(ids, mask, None)
        cache.reorder_cache(owners)
        logits, mask, rows = logits[owners], mask[owners], torch.arange(len(owners), device=device)
        for step in range(sampling.max_tokens):
            token, logprob = draw(logits, uniforms[rows, step], sampling)
            tokens[rows, step], logprobs[rows, step], lengths[rows] = token, logprob, step + 1
            going = ~torch.isin(token, self._eos)
            if step + 1 == sampling.max_tokens or not going.any():
                break
            if not going.all():
                kept = going.nonzero()[:, 0]
                rows, token, mask = rows[kept], token[kept], mask[kept]
                cache.reorder_cache(kept)
            mask = torch.cat([mask, mask.new_ones(len(rows), 1)], dim=1)
            logits, cache = self._forward(token[:, None], mask, cache)
        return Decoded(tokens, logprobs, lengths)

    def _forward(self, ids: Tensor, mask: Tensor, cache: Any) -> tuple[Tensor, Any]:
        """Logits [b, V] float32 behind the last of `ids` [b, T]; `mask` [b, ..T] covers what is cached, too."""
        positions = (mask.cumsum(-1) - 1).clamp(min=0)[:, -ids.shape[1] :]
        known = {"position_ids": positions, "logits_to_keep": 1}
        output = self._model(
            input_ids=ids,
            attention_mask=mask,
            use_cache=True,
            **{self._cache: cache},
            **{name: known[name] for name in self._takes},
        )
        return output.logits[:, -1].float(), output[self._cache]


def left_padded(prompts: list[Tensor]) -> tuple[Tensor, Tensor]:
    """Prompts [P_i] as (ids [p, max P] int64, mask [p, max P] int64), so that all end in the last column."""
    width = max(map(len, prompts))
    ids = torch.zeros(len(prompts), width, dtype=torch.int64)
    mask = torch.zeros_like(ids)
    for row, prompt in enumerate(prompts):
        ids[row, width - len(prompt) :] = prompt
        mask[row, width - len(prompt) :] = 1
    return ids, mask


def draw(logits: Tensor, uniforms: Tensor, sampling: SamplingOptions) -> tuple[Tensor, Tensor]:
    """A token for every row, by the inverse of its distribution function over the vocabulary in its own order.

    Rounding of the logits then moves a token only where its number lies as close to a border between two.

    Args:
        logits: [b, V] float32.
        uniforms: [b] float64 in [0, 1).

    Returns:
        (tokens [b] int64, their log-probability [b] float32 before temperature and truncation).

    Raises:
        DataError: a logit is not a number, or infinitely large.
    """
    total = logits.logsumexp(-1)
    if not total.isfinite().all():
        raise DataError("The model's output is not finite. Use dtype bfloat16 or float32.")
    token = _drawn(logits, uniforms, sampling) if sampling.temperature > 0 else logits.argmax(-1)
    return token, logits.gather(-1, token[:, None])[:, 0] - total


def _drawn(logits: Tensor, uniforms: Tensor, sampling: SamplingOptions) -> Tensor:
    """Tokens [b] int64 out of `logits` [b, V], tempered, then cut by top_k, then by top_p."""
    logits, ids = logits / sampling.temperature, None
    if 0 < sampling.top_k < logits.shape[-1]:
        ids = logits.topk(sampling.top_k, dim=-1).indices.sort(dim=-1).values
        logits = logits.gather(-1, ids)
    probabilities = logits.double().softmax(-1)
    if sampling.top_p < 1:
        values, order = probabilities.sort(dim=-1, descending=True)
        cut = values.cumsum(-1) - values >= sampling.top_p
        probabilities = probabilities.masked_fill(cut.scatter(-1, order, cut), 0)
    below = probabilities.cumsum(-1)
    wanted = uniforms[:, None] * below[:, -1:]
    place = torch.searchsorted(below, wanted, right=True)
    return (place if ids is None else ids.gather(-1, place))[:, 0]
