"""Scores of whole responses under a reward model, with gradients: a classification head on a causal model.

A response's score is the head's value at its last token, which has read the prompt and all of the response.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from rayflow.core.chat import POLICY_ENCODING
from rayflow.core.model_folder import load_tokenizer
from rayflow.core.seeds import derive
from rayflow.errors import ModelError
from rayflow.training.models import Attention, Precision, load_classifier

if TYPE_CHECKING:
    from rayflow.training.pack import Batch

_NEW_PAD = "<|rayflow_pad|>"


class RewardScorer(nn.Module):
    """A sequence classifier with one label as a module from a batch to its responses' scores.

    Args:
        model: see `load_reward_model`.
    """

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, batch: Batch) -> torch.Tensor:
        """The head's value at the last token of each response: [m] float32."""
        hidden = self.model.base_model(**batch.inputs(self.model)).last_hidden_state
        return self.model.score(hidden.flatten(0, 1)[batch.ends])[:, 0].float()

    def tokenizer(self, source: str) -> Any:
        """What is saved beside the model: `source`'s tokenizer with a pad token of its own."""
        return reward_tokenizer(source)


def load_reward_model(
    model: str, precision: Precision, seed: int, attention: Attention = "sdpa"
) -> nn.Module:
    """A sequence classifier with one label, on the CPU; a model that is none yet gets a new head.

    The new head is drawn from a normal distribution with variance 1 / (hidden size + 1): scores of order one,
    and the same head on every worker.

    Args:
        model: local folder or hub id of a causal language model, or of a classifier with one label.
        precision: of the weights.
        seed: of the new head.
        attention: how the model attends.

    Raises:
        ModelError: it cannot be loaded, or has no head that can be read at any token.

    Source:
        Learning to summarize from human feedback (arXiv:2009.01325) appendix B.1, for the head's variance.
    """
    made, missing = load_classifier(model, precision, attention)
    head = getattr(made, "score", None)
    if not isinstance(head, nn.Linear) or missing - {"score.weight"}:
        raise ModelError(
            f"Model '{model}' ({made.config.model_type}) cannot become a reward model: it needs a decoder-only "
            "language model whose transformers sequence classifier has one linear head, 'score'."
        )
    if missing:
        generator = torch.Generator().manual_seed(derive(seed, "reward head"))
        drawn = torch.randn(head.weight.shape, generator=generator) / math.sqrt(head.in_features + 1)
        head.weight.data.copy_(drawn)
    tokenizer = reward_tokenizer(model)
    if len(tokenizer) > made.get_input_embeddings().num_embeddings:
        made.resize_token_embeddings(len(tokenizer), mean_resizing=False)
    made.config.pad_token_id = tokenizer.pad_token_id
    setattr(made.config, *POLICY_ENCODING)
    return made


def reward_tokenizer(source: str) -> Any:
    """The tokenizer of `source`, padding with a token that never ends a response.

    transformers' own head reads the rightmost token that is not the pad token. Many language models pad with
    the token that ends a response, and would be read one token too early.
    """
    tokenizer = load_tokenizer(source)
    specials = (token.content for _, token in sorted(tokenizer.added_tokens_decoder.items()) if token.special)
    used = (tokenizer.eos_token, tokenizer.bos_token, None)
    template = str(tokenizer.chat_template or "")
    free = (
        token
        for token in (tokenizer.pad_token, tokenizer.unk_token, *specials)
        if token not in used and token not in template
    )
    tokenizer.add_special_tokens({"pad_token": next(free, _NEW_PAD)})
    return tokenizer
