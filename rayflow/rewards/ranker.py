"""A pairwise ranker: a causal language model that reads two responses and names the better one by a letter.

Row in: a prompt with its responses. Row out: probabilities for pairs of them, or one reward each (Eq 7).

Source: RSO, arXiv:2309.06657, section 3.3; SLiC-HF, arXiv:2305.10425.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np
from pydantic import Field

from rayflow.core.branches import common_prefix
from rayflow.core.comparison import comparison_token_ids, letter_ids
from rayflow.core.model_folder import resolve_model
from rayflow.core.rows import Prompt
from rayflow.core.stats import sigmoid
from rayflow.errors import ModelError, RewardError
from rayflow.rewards.models import Dtype, batches, checked_max_length, load_config, load_weights
from rayflow.rewards.pairwise import PairwiseByOrder, PairwiseOptions


class RankerReward(PairwiseByOrder):
    """The verdict on a pair is P(A) / (P(A) + P(B)), averaged over both orders of the two responses.

    The average is one of probabilities, not of log-odds: a ranker that always says "A" with certainty then
    gives one half, rather than a difference of two huge numbers. What all texts of an order begin with, the
    context and, when all are shown behind the same response, that response too, is computed once.
    """

    class Config(PairwiseOptions):
        """Settings of `ranker`, besides `eps` and `seed`.

        Attributes:
            model: folder or hub id of an AutoModelForCausalLM checkpoint, in safetensors, that was trained on
                `rayflow.core.comparison`'s text.
            dtype: of the weights and the forward pass; the two letters are always compared in float32.
            device: "auto" takes a GPU where there is one.
            batch_tokens: tokens of one forward pass, padding and the shared beginning included.
            max_length: longest text (context and two responses) in tokens; None is the model's own limit. A
                longer one is an error, never cut.
        """

        HARDWARE: ClassVar[frozenset[str]] = frozenset({"device", "batch_tokens", "model"})

        kind: str = "ranker"
        model: str = Field(min_length=1)
        dtype: Dtype = "auto"
        device: str = "auto"
        batch_tokens: int = Field(default=16384, gt=0)
        max_length: int | None = Field(default=None, gt=0)

    def __init__(self, options: Config) -> None:
        super().__init__(options)
        self._model: Any = None
        self._tokenizer: Any = None
        self._max_length = 0

    @property
    def models(self) -> tuple[str, ...]:
        """The one model, whose content belongs to the stage's fingerprint."""
        return (resolve_model(self.options.model),)

    def setup(self) -> None:
        """Load the model, and leave of its vocabulary the two letters.

        Raises:
            ModelError: the folder cannot be used, holds no language model, or cannot tell the letters apart.
            ConfigError: `max_length` does not fit the model.
            MissingPackageError: torch or transformers is not installed.
        """
        path, config, self._tokenizer = load_config(self.options.model, "ranker")
        _require_language_model(path, config)
        self._max_length = checked_max_length(path, config, self._tokenizer, self.options.max_length)
        letters = letter_ids(self._tokenizer)
        from transformers import AutoModelForCausalLM

        self._model = load_weights(AutoModelForCausalLM, path, self.options.dtype, self.options.device)
        _keep_only(self._model, letters, path)

    def judge_orders(self, prompt: Prompt, responses: Sequence[str], pairs: np.ndarray) -> np.ndarray:
        """Probabilities [p, 2] float64 for pairs [p, 2], by order; of equal texts each pair is read once.

        Raises:
            RewardError: a text is longer than the limit, or the accelerator's memory is too small.
        """
        texts = [(responses[i], responses[j]) for i, j in pairs]
        position = {pair: place for place, pair in enumerate(dict.fromkeys(texts))}
        shown_first = sigmoid(self._log_odds(self._encode(prompt, list(position))))
        shown_second = sigmoid(-self._log_odds(self._encode(prompt, [(b, a) for a, b in position])))
        return np.stack([shown_first, shown_second], axis=1)[[position[pair] for pair in texts]]

    def _encode(self, prompt: Prompt, pairs: Sequence[tuple[str, str]]) -> list[list[int]]:
        sequences = [comparison_token_ids(self._tokenizer, prompt.text, a, b).tolist() for a, b in pairs]
        longest = max(map(len, sequences))
        if longest > self._max_length:
            raise RewardError(
                f"prompt {prompt.prompt_id}: the context with two responses has {longest} tokens and does not "
                f"fit into the ranker's {self._max_length}; cutting it would change what is judged. Lower "
                "sample.max_tokens, drop long prompts, or raise the reward's max_length if the model allows it."
            )
        return sequences

    def _log_odds(self, sequences: list[list[int]]) -> np.ndarray:
        """log P(A) / P(B) behind each sequence: [s] float64."""
        import torch

        shared = common_prefix(sequences)
        odds = np.empty(len(sequences))
        try:
            with torch.inference_mode():
                begin = self._begin(sequences[0][:shared])
                for batch in batches([len(s) for s in sequences], self.options.batch_tokens):
                    odds[batch] = self._forward([sequences[i][shared:] for i in batch], begin)
        except torch.OutOfMemoryError as error:
            raise RewardError(
                f"the ranker ran out of memory on texts of up to {max(map(len, sequences))} tokens; lower the "
                f"reward's batch_tokens (now {self.options.batch_tokens})."
            ) from error
        return odds

    def _begin(self, shared: list[int]) -> Any:
        """The key-value cache of what all sequences begin with; None where that is nothing."""
        import torch

        if not shared:
            return None
        ids = torch.tensor([shared]).to(self._model.device)
        return self._model(input_ids=ids, use_cache=True).past_key_values

    def _forward(self, sequences: list[list[int]], begin: Any) -> np.ndarray:
        """Log-odds [b] float64 of b sequences that go on behind the shared beginning.

        They are padded on the right, where a causal model's earlier positions do not see it: so no mask is
        needed, and any token will do.
        """
        import torch

        width = max(map(len, sequences))
        ids = torch.tensor([s + [0] * (width - len(s)) for s in sequences]).to(self._model.device)
        ends = torch.tensor([len(s) - 1 for s in sequences])
        cache = copy.deepcopy(begin)
        if cache is not None:
            cache.batch_repeat_interleave(len(sequences))
        logits = self._model(input_ids=ids, past_key_values=cache, use_cache=cache is not None).logits
        last = logits[torch.arange(len(sequences)), ends].double().cpu().numpy()
        return last[:, 0] - last[:, 1]


def _require_language_model(path: str, config: Any) -> None:
    names = config.architectures or []
    if any(name.endswith("ForSequenceClassification") for name in names):
        raise ModelError(
            f"Reward model '{path}' is a {names[0]}, not a language model. A ranker is saved from "
            "AutoModelForCausalLM; for this one use `kind: classifier`."
        )


def _keep_only(model: Any, letters: tuple[int, int], path: str) -> None:
    """Replace the output layer by its two rows for the letters, in float32.

    The logits of a whole vocabulary would be the largest array of the forward pass, and in half precision
    too coarse to compare two of them.

    Raises:
        ModelError: the model has no output layer of the usual form.
    """
    import torch

    head = model.get_output_embeddings()
    if not isinstance(head, torch.nn.Linear):
        raise ModelError(f"Reward model '{path}' has no linear output layer, so it cannot serve as a ranker.")
    rows = list(letters)
    small = torch.nn.Linear(head.in_features, 2, bias=head.bias is not None, device=head.weight.device)
    with torch.no_grad():
        small.weight.copy_(head.weight[rows])
        if head.bias is not None:
            small.bias.copy_(head.bias[rows])
    small.register_forward_pre_hook(lambda module, inputs: (inputs[0].float(),))
    model.set_output_embeddings(small)
