"""A sampler on plain transformers: for machines without vLLM, and the yardstick that vLLM is tested against.

Slow next to vLLM, since one prompt runs at a time. Row in: a prompt's token ids. Row out: n candidates.
"""

from __future__ import annotations

import asyncio
import threading
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from rayflow.core.model_folder import check_model_folder, resolve_model
from rayflow.core.options import KindOptions
from rayflow.engines.base import Generation, SamplingOptions
from rayflow.engines.limits import check_length
from rayflow.errors import MissingPackageError, ModelError

if TYPE_CHECKING:
    import torch

_CHUNK = 16
"""Positions whose [n, V] log-softmax is held at once; a whole sequence's would be gigabytes."""


class TransformersEngine:
    """n candidates per prompt by one `model.generate` call, on the GPU where there is one."""

    class Config(KindOptions):
        """Settings.

        Attributes:
            dtype: of the weights and the forward pass.
            device: "auto" takes a GPU where there is one.
            max_model_len: longest sequence in tokens; None takes the model's own limit.
            trust_remote_code: run Python code that comes with the model.
        """

        HARDWARE = frozenset({"device"})

        kind: str = "transformers"
        dtype: Literal["float32", "bfloat16", "float16"] = "bfloat16"
        device: str = "auto"
        max_model_len: int | None = None
        trust_remote_code: bool = False

    def __init__(self, options: Config) -> None:
        self.options = options
        self._model: Any = None
        self._tokenizer: Any = None

    def setup(self, model: str) -> None:
        """Load the model and its tokenizer; see `Engine.setup`."""
        check_model_folder(model)
        try:
            import torch
            from transformers import AutoModelForCausalLM, AutoTokenizer
        except ImportError as error:
            raise MissingPackageError(
                error.name or "transformers", "The transformers engine", "train"
            ) from error
        options, path = self.options, resolve_model(model)
        device = options.device
        if device == "auto":
            device = "cuda" if torch.cuda.is_available() else "cpu"
        try:
            self._tokenizer = AutoTokenizer.from_pretrained(path, trust_remote_code=options.trust_remote_code)
            loaded = AutoModelForCausalLM.from_pretrained(
                path,
                dtype=getattr(torch, options.dtype),
                use_safetensors=True,
                trust_remote_code=options.trust_remote_code,
            )
        except (OSError, ValueError) as error:
            raise ModelError(f"transformers cannot load '{path}': {error}") from error
        self._model = loaded.to(device).eval()
        # One call at a time: the seed sits in torch's global generators while it runs.
        self._lock = threading.Lock()

    @property
    def tokenizer(self) -> Any:
        """The model's tokenizer."""
        return self._tokenizer

    @property
    def max_model_len(self) -> int:
        """Longest sequence, prompt and response together, in tokens."""
        own = getattr(self._model.config, "max_position_embeddings", None) or 1 << 20
        return min(self.options.max_model_len or own, own)

    async def generate(
        self, prompt_token_ids: np.ndarray, sampling: SamplingOptions, seed: int
    ) -> Generation:
        """n candidates for one prompt [P] int32, in a thread; see `Engine.generate`.

        Raises:
            DataError: the prompt and max_tokens exceed `max_model_len`. Concerns this prompt only.
        """
        check_length(len(prompt_token_ids), sampling, self.max_model_len)
        return await asyncio.to_thread(self._generate, prompt_token_ids, sampling, seed)

    def _generate(self, prompt_token_ids: np.ndarray, sampling: SamplingOptions, seed: int) -> Generation:
        import torch

        model = self._model
        prompt = torch.from_numpy(np.asarray(prompt_token_ids, dtype=np.int64)).to(model.device)[None]
        devices = [model.device] if model.device.type == "cuda" else []
        with self._lock, torch.inference_mode(), torch.random.fork_rng(devices):
            torch.manual_seed(seed)
            output = model.generate(
                prompt,
                attention_mask=torch.ones_like(prompt),
                generation_config=self._generation_config(sampling),
            )
            sequences = output.sequences[:, prompt.shape[1] :]
            logprobs = _token_logprobs(sequences, output.logits)
        return self._collect(sequences.cpu().numpy(), logprobs.cpu().numpy(), sampling)

    def _generation_config(self, sampling: SamplingOptions) -> Any:
        """Only what `sampling` asks for: the model's own top_p, penalties and so on must not join in."""
        from transformers import GenerationConfig

        drawn = sampling.temperature > 0
        kept = {"temperature": sampling.temperature, "top_k": sampling.top_k, "top_p": sampling.top_p}
        return GenerationConfig(
            do_sample=drawn,
            **(kept if drawn else {}),
            max_new_tokens=sampling.max_tokens,
            # Greedy candidates are identical: one is computed, and repeated in `_collect`.
            num_return_sequences=sampling.num_candidates if drawn else 1,
            eos_token_id=self._eos_ids(),
            pad_token_id=self._pad_id(),
            return_dict_in_generate=True,
            output_logits=True,  # before temperature and truncation
        )

    def _eos_ids(self) -> list[int]:
        """Every id that ends a response: the tokenizer's and the model's (chat models often have two)."""
        own = self._model.generation_config.eos_token_id
        own = own if isinstance(own, list) else [own]
        return sorted({i for i in (*own, self._tokenizer.eos_token_id) if i is not None})

    def _pad_id(self) -> int:
        pad = self._tokenizer.pad_token_id
        return pad if pad is not None else (self._eos_ids() or [0])[0]

    def _collect(self, sequences: np.ndarray, logprobs: np.ndarray, sampling: SamplingOptions) -> Generation:
        """Cut every row after its first EOS and sum up to there.

        Args:
            sequences: [n, R] int64, padded behind EOS.
            logprobs: [n, R] float32, nats.
        """
        if len(sequences) < sampling.num_candidates:
            sequences = np.repeat(sequences, sampling.num_candidates, axis=0)
            logprobs = np.repeat(logprobs, sampling.num_candidates, axis=0)
        ends = np.isin(sequences, self._eos_ids())
        stopped = ends.any(axis=1)
        lengths = np.where(stopped, ends.argmax(axis=1) + 1, sequences.shape[1])
        token_ids = tuple(row[:size].astype(np.int32) for row, size in zip(sequences, lengths, strict=True))
        within = np.arange(sequences.shape[1]) < lengths[:, None]
        texts = self._tokenizer.batch_decode(token_ids, skip_special_tokens=True)
        return Generation(
            responses=tuple(texts),
            token_ids=token_ids,
            logprobs=np.where(within, logprobs, 0.0).sum(axis=1, dtype=np.float32),
            finish_reasons=tuple("stop" if s else "length" for s in stopped),
        )

    def close(self) -> None:
        """Drop the model; safe to call twice."""
        self._model = None


def _token_logprobs(sequences: torch.Tensor, logits: tuple[torch.Tensor, ...]) -> torch.Tensor:
    """Log-probability of every generated token under the model's own, untempered distribution.

    Args:
        sequences: [n, R] int64.
        logits: R tensors [n, V], as the model gave them.

    Returns:
        [n, R] float32, nats.
    """
    import torch

    parts = []
    for start in range(0, len(logits), _CHUNK):
        chunk = torch.stack(logits[start : start + _CHUNK], dim=1).float()
        chosen = sequences[:, start : start + _CHUNK, None]
        parts.append(chunk.gather(-1, chosen)[..., 0] - chunk.logsumexp(-1))
    return torch.cat(parts, dim=1)
