"""A sequence classifier in transformers. Sequences in: a prompt with each response, as token ids.
Out: the head's raw values at the last token of each.

A decoder's own head reads the last token that is not the pad id. Many reward models pad with their EOS token, and
a text that ends in EOS would then be read one token too early; so each batch is padded with an id that occurs in
none of its texts (`free_pad_id`).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from rayflow.errors import RewardError
from rayflow.rewards.models import batches
from rayflow.rewards.prompt_once import PromptOnce

if TYPE_CHECKING:
    import torch


class TransformersScorer:
    """Reads what the sequences of a call share once, or each whole, sorted by length into padded batches.

    Args:
        model: from AutoModelForSequenceClassification, in evaluation mode.
        pad_id: the tokenizer's, where it has one.
        batch_tokens: tokens of one forward pass, padding included.
        shared: whether the model may read the common beginning once (`core.branches.why_not_shared`).
    """

    def __init__(self, model: Any, pad_id: int | None, batch_tokens: int, shared: bool) -> None:
        self.model = model
        self._pad_id = pad_id
        self._batch_tokens = batch_tokens
        self._prompt_once = PromptOnce(model, batch_tokens) if shared else None

    def logits(self, sequences: Sequence[list[int]]) -> np.ndarray:
        """Raw values of the head, no sigmoid: [n, labels] float64.

        Raises:
            RewardError: the accelerator's memory is too small.
        """
        import torch

        try:
            with torch.inference_mode():
                if self._prompt_once is not None:
                    return _values(self.model.score(self._prompt_once.last_states(sequences)))
                places = list(batches([len(s) for s in sequences], self._batch_tokens))
                found = np.concatenate([self._padded([sequences[i] for i in batch]) for batch in places])
                return found[np.argsort(np.concatenate(places))]
        except torch.OutOfMemoryError as error:
            raise RewardError(
                f"the reward model ran out of memory on {len(sequences)} texts of up to "
                f"{max(map(len, sequences))} tokens; lower the reward's batch_tokens (now {self._batch_tokens})."
            ) from error

    def close(self) -> None:
        """Nothing outlives this process."""

    def _padded(self, sequences: list[list[int]]) -> np.ndarray:
        """The head's values of one batch: [b, labels] float64, from b sequences padded on the right."""
        import torch

        config = self.model.config
        preferred = (self._pad_id, config.get_text_config().pad_token_id)
        pad = free_pad_id(sequences, preferred, self.model.get_input_embeddings().num_embeddings)
        config.pad_token_id = config.get_text_config().pad_token_id = pad  # what the head looks for
        width = max(map(len, sequences))
        ids = torch.tensor([s + [pad] * (width - len(s)) for s in sequences])
        mask = torch.tensor([[1] * len(s) + [0] * (width - len(s)) for s in sequences])
        device = self.model.device
        return _values(self.model(input_ids=ids.to(device), attention_mask=mask.to(device)).logits)


def _values(logits: torch.Tensor) -> np.ndarray:
    return logits.double().cpu().numpy()


def free_pad_id(sequences: list[list[int]], preferred: Sequence[int | None], vocab_size: int) -> int:
    """A pad id that occurs in none of `sequences`: the first preferred one that is free, else the lowest.

    Raises:
        RewardError: the batch uses the whole vocabulary.
    """
    used = set().union(*sequences)
    for pad in (*preferred, *range(vocab_size)):
        if pad is not None and 0 <= pad < vocab_size and pad not in used:
            return pad
    raise RewardError(
        "one batch uses every token of the vocabulary, none is left for padding; lower batch_tokens."
    )
