"""A reward model: a transformers sequence classifier whose raw logit is the reward.

Row in: a prompt with its responses. Row out: one logit per response, no sigmoid.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import SimpleNamespace
from typing import Any, ClassVar, Literal

import numpy as np
from pydantic import Field, model_validator

from rayflow.core.branches import why_not_shared
from rayflow.core.chat import (
    POLICY_ENCODING,
    brings_bos,
    conversation_text,
    prompt_token_ids,
    response_token_ids,
)
from rayflow.core.model_folder import resolve_model
from rayflow.core.rows import Prompt
from rayflow.errors import RewardError
from rayflow.rewards.base import PointwiseOptions
from rayflow.rewards.models import (
    Dtype,
    checked_label,
    checked_max_length,
    load_config,
    load_weights,
    require_classifier,
    stored_dtype,
)
from rayflow.rewards.transformers_scorer import TransformersScorer
from rayflow.rewards.vllm_scorer import VllmScorer, vllm_serves


class ClassifierReward:
    """Scores one prompt's responses together.

    Decoders of the families for which it is shown to be exact (`core.branches`) read the prompt once, and the
    score is the head's value at each response's last token. Other models read each text whole, sorted by
    length into padded batches, or, with `backend: vllm`, in vLLM's pooling runner with its prefix cache.

    A model that says so in its configuration (`POLICY_ENCODING`), as those that rayflow trains do, reads the
    very tokens that a policy reads and emits, so no EOS where a response was cut; others read the conversation as
    one text.
    """

    class Config(PointwiseOptions):
        """Settings of `classifier`; the other is of every such reward (`PointwiseOptions`).

        Attributes:
            model: folder or hub id of an AutoModelForSequenceClassification checkpoint, in safetensors.
            dtype: of the weights and the forward pass; "auto" is the one they are stored in.
            device: "auto" takes a GPU where there is one. vLLM takes what it was built for.
            backend: what computes: "transformers", "vllm", or "auto" (see `chosen_backend`).
            gpu_memory_utilization: share of a GPU's memory that vLLM may take.
            batch_tokens: tokens of one forward pass, padding included. A prompt that is read once counts once.
            max_length: longest conversation in tokens; None is the model's own limit. A longer one is an
                error, never cut: a judgement of half a response is no judgement of the response.
            label: index of the logit to read, required for a model with several labels.
        """

        # And `model`: its content is in the stage's fingerprint, so that where it lies does not matter.
        HARDWARE: ClassVar[frozenset[str]] = frozenset(
            {"device", "batch_tokens", "backend", "gpu_memory_utilization", "model"}
        )

        kind: str = "classifier"
        model: str = Field(min_length=1)
        dtype: Dtype = "auto"
        device: str = "auto"
        backend: Literal["auto", "transformers", "vllm"] = "auto"
        gpu_memory_utilization: float = Field(default=0.9, gt=0, le=1)
        batch_tokens: int = Field(default=16384, gt=0)
        max_length: int | None = Field(default=None, gt=0)
        label: int | None = Field(default=None, ge=0)

        @model_validator(mode="after")
        def _vllm_has_its_device(self) -> ClassifierReward.Config:
            if self.backend == "vllm" and self.device != "auto":
                raise ValueError("backend vllm computes where it was built for: leave device at auto")
            return self

    reads_cut = True

    def __init__(self, options: Config) -> None:
        self.options = options
        self._scorer: TransformersScorer | VllmScorer | None = None
        self._tokenizer: Any = None
        self._encodes_as_policy = False
        self._label = 0
        self._max_length = 0

    @property
    def models(self) -> tuple[str, ...]:
        """The one model, whose content belongs to the stage's fingerprint."""
        return (resolve_model(self.options.model),)

    def check(self, settings: Mapping[str, Any]) -> None:
        """Refuse a model by its config.json, before anything else of it is read.

        Raises:
            ModelError: it is no sequence classifier.
            ConfigError: `label` must be named, or is not there.
        """
        names = settings.get("id2label") or {0: "LABEL_0", 1: "LABEL_1"}  # as transformers takes it
        config = SimpleNamespace(
            architectures=settings.get("architectures"), num_labels=len(names), id2label=names
        )
        require_classifier(self.options.model, config)
        checked_label(self.options.model, config, self.options.label)

    def setup(self) -> None:
        """Load the model and its tokenizer; what can be refused by its config alone is refused first.

        Raises:
            ModelError: the folder cannot be used, or holds no trained sequence classifier.
            ConfigError: `label` or `max_length` does not fit the model.
            MissingPackageError: torch or transformers is not installed.
        """
        path, config, self._tokenizer = load_config(self.options.model, "classifier")
        require_classifier(path, config)
        name, value = POLICY_ENCODING
        self._encodes_as_policy = getattr(config, name, None) == value
        self._label = checked_label(path, config, self.options.label)
        self._max_length = checked_max_length(path, config, self._tokenizer, self.options.max_length)
        if chosen_backend(config, self.options, self._max_length) == "vllm":
            self._scorer = VllmScorer(
                path,
                stored_dtype(config, self.options.dtype),
                self._max_length,
                self.options.gpu_memory_utilization,
            )
            return
        from transformers import AutoModelForSequenceClassification as Auto

        model = load_weights(Auto, path, self.options.dtype, self.options.device)
        shared = why_not_shared(config, self._max_length) is None
        self._scorer = TransformersScorer(
            model, self._tokenizer.pad_token_id, self.options.batch_tokens, shared
        )

    def close(self) -> None:
        """End vLLM's process, where there is one."""
        if self._scorer is not None:
            self._scorer.close()

    def score(self, prompt: Prompt, responses: Sequence[str], cut: np.ndarray | None = None) -> np.ndarray:
        """Rewards of one prompt's candidates: [n] float64, the raw logits; `cut` as in `scoring.scored`.

        Raises:
            RewardError: a conversation is longer than the limit, or the accelerator's memory is too small.
            DataError: the prompt or a response cannot be encoded (see `core.chat`).
        """
        if not responses:
            return np.empty(0, dtype=np.float64)
        # Low temperatures repeat themselves: each text is read once, with its end and without.
        ended = [True] * len(responses) if cut is None else (~np.asarray(cut, bool)).tolist()
        answers = list(zip(responses, ended, strict=True))
        position = {answer: i for i, answer in enumerate(dict.fromkeys(answers))}
        logits = self._scorer.logits(self._encode(prompt, list(position)))[:, self._label]
        return logits[[position[answer] for answer in answers]]

    def _encode(self, prompt: Prompt, answers: list[tuple[str, bool]]) -> list[list[int]]:
        """Token ids of the whole conversations."""
        encode = self._policy_ids if self._encodes_as_policy else self._text_ids
        sequences = encode(prompt, answers)
        longest = max(map(len, sequences))
        if longest > self._max_length:
            raise RewardError(
                f"prompt {prompt.prompt_id}: a conversation of {longest} tokens does not fit into the reward "
                f"model's {self._max_length}, and cutting it would change what is judged. Lower "
                "sample.max_tokens, drop long prompts, or raise the reward's max_length if the model allows it."
            )
        if min(map(len, sequences)) == 0:
            raise RewardError(f"prompt {prompt.prompt_id}: prompt and response are empty, nothing to judge.")
        return sequences

    def _policy_ids(self, prompt: Prompt, answers: list[tuple[str, bool]]) -> list[list[int]]:
        begin = prompt_token_ids(self._tokenizer, prompt).tolist()
        return [begin + response_token_ids(self._tokenizer, prompt, *answer).tolist() for answer in answers]

    def _text_ids(self, prompt: Prompt, answers: list[tuple[str, bool]]) -> list[list[int]]:
        """A chat template writes its own special tokens."""
        texts = [conversation_text(self._tokenizer, prompt, response) for response, _ in answers]
        templated = prompt.prompt is None and self._tokenizer.chat_template is not None
        complete = templated or brings_bos(self._tokenizer, texts[0])
        return self._tokenizer(texts, add_special_tokens=not complete, verbose=False)["input_ids"]


def chosen_backend(
    config: Any, options: ClassifierReward.Config, longest: int
) -> Literal["transformers", "vllm"]:
    """What computes. Under "auto", on CPU, it is vLLM for decoders that transformers would read text by text.

    A family that reads the prompt once in transformers needs no second process and no cache, and an encoder has
    no prefix to share. On a GPU an engine takes most of the memory, which whoever gave it out must know: there
    "auto" is transformers. `tests/benchmarks/score.py --vllm` measures both.

    Args:
        config: the model's transformers configuration.
        options: the reward's.
        longest: tokens of the longest conversation that may come.
    """
    import torch

    if options.backend != "auto":
        return options.backend
    placed = options.device != "auto" or torch.cuda.is_available()
    if placed or why_not_shared(config, longest) is None or not vllm_serves(config):
        return "transformers"
    return "vllm"
