"""Log-probabilities of whole responses under a causal language model, with gradients.

The vocabulary projection is the largest tensor of a step, so it is computed for the positions that predict a
response token only, a chunk at a time, and recomputed in the backward pass.
"""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, Any

import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

from rayflow.core.model_folder import load_tokenizer

if TYPE_CHECKING:
    from rayflow.training.pack import Batch


class ResponseScorer(nn.Module):
    """A causal language model as a module from a batch to its responses' log-probabilities.

    A module of its own, because DeepSpeed must see the whole forward pass, loss head included.

    Args:
        model: a transformers causal language model.
        head_only: project selected positions with the model's output embeddings. Only for families whose
            logits are exactly that projection (no scaling, no soft-capping); otherwise the model's own logits,
            of the columns in which any row of the batch predicts a response token.
    """

    def __init__(self, model: nn.Module, head_only: bool) -> None:
        super().__init__()
        self.model = model
        self.head_only = head_only

    def forward(self, batch: Batch) -> torch.Tensor:
        """Summed log-probabilities of the responses: [m] float32, nats, EOS included, prompt excluded."""
        return response_logprobs(self.model, batch, head_only=self.head_only)

    def tokenizer(self, source: str) -> Any:
        """What is saved beside the model: the tokenizer as `source` has it."""
        return load_tokenizer(source)


def response_logprobs(model: nn.Module, batch: Batch, *, head_only: bool) -> torch.Tensor:
    """log pi(response | prompt) of every response of a batch.

    Args:
        model: a transformers causal language model.
        batch: see `pack.pack`; on the model's device.
        head_only: see `ResponseScorer`.

    Returns:
        [m] float32, nats: the sum over the response's tokens, computed with float32 softmax.
    """
    if head_only:
        hidden = model.base_model(**batch.inputs(model)).last_hidden_state
        selected = hidden.flatten(0, 1)[batch.predictors]
        tokens = _project(model.get_output_embeddings(), selected, batch.targets, batch.head_chunks)
    else:
        tokens = _token_logprobs(_logits(model, batch), batch.targets)
    total = tokens.new_zeros(len(batch.num_tokens))
    return total.index_add(0, batch.owners, tokens)


def _logits(model: nn.Module, batch: Batch) -> torch.Tensor:
    """[n, vocabulary]: what the model itself says before each response token."""
    width = batch.input_ids.shape[1]
    rows, columns = batch.predictors // width, batch.predictors % width
    if "logits_to_keep" not in inspect.signature(model.forward).parameters:
        return model(**batch.inputs(model)).logits[rows, columns]
    wanted, places = columns.unique(return_inverse=True)
    return model(**batch.inputs(model), logits_to_keep=wanted).logits[rows, places]


def _project(head: nn.Module, hidden: torch.Tensor, targets: torch.Tensor, num_chunks: int) -> torch.Tensor:
    """[n] float32 log-probabilities of `targets` [n] from hidden states [n, h], in chunks, some perhaps empty."""

    def score(states: torch.Tensor, ids: torch.Tensor) -> torch.Tensor:
        return _token_logprobs(head(states), ids)

    parts = max(1, num_chunks)
    chunks = list(zip(hidden.tensor_split(parts), targets.tensor_split(parts), strict=True))
    if not torch.is_grad_enabled():
        return torch.cat([score(*chunk) for chunk in chunks])
    return torch.cat([checkpoint(score, *chunk, use_reentrant=False) for chunk in chunks])


def _token_logprobs(logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    return -nn.functional.cross_entropy(logits.float(), targets, reduction="none")
