"""A sampler on plain transformers: for machines without vLLM, and the yardstick that vLLM is tested against.

Requests that wait together run together, so ask for many prompts at once. Row in: a prompt's token ids. Row out: n
candidates.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
from pydantic import Field

from rayflow.core.arithmetic import computed_in
from rayflow.core.model_folder import check_model_folder, loadable
from rayflow.core.options import KindOptions
from rayflow.engines.base import Generation, SamplingOptions
from rayflow.engines.limits import check_length
from rayflow.errors import MissingPackageError, ModelError


@dataclass(frozen=True, eq=False)
class _Request:
    """One call of `generate`, and where its caller waits."""

    prompt: np.ndarray
    sampling: SamplingOptions
    seed: int
    answer: Future[Generation] = field(default_factory=Future)

    @property
    def num_rows(self) -> int:
        """Greedy candidates are identical: one is computed, and repeated in `_collect`."""
        return self.sampling.num_candidates if self.sampling.temperature > 0 else 1


class TransformersEngine:
    """Batches of whole prompts, left-padded, on the GPU where there is one.

    Each prompt draws with numbers of its own seed, so what it is batched with, and `max_batch_rows`, change its
    result only as far as they change the model's rounding: in float32 hardly ever; in bfloat16 a long response may
    take another, about equally likely token somewhere, and go on from there.
    """

    class Config(KindOptions):
        """Settings.

        Attributes:
            dtype: of the weights and the forward pass.
            device: "auto" takes a GPU where there is one.
            max_model_len: longest sequence in tokens; None takes the model's own limit.
            max_batch_rows: responses that are computed together; fewer need less memory.
            trust_remote_code: run Python code that comes with the model.
        """

        HARDWARE = frozenset({"device", "max_batch_rows"})

        kind: str = "transformers"
        dtype: Literal["float32", "bfloat16", "float16"] = "bfloat16"
        device: str = "auto"
        max_model_len: int | None = None
        max_batch_rows: int = Field(default=128, gt=0)
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
            raise MissingPackageError.of(
                error.name or "transformers", "The transformers engine", "train"
            ) from error
        options, path = self.options, loadable(model)
        device = options.device
        if device == "auto":
            device = "cuda" if torch.cuda.is_available() else "cpu"
        try:
            self._tokenizer = AutoTokenizer.from_pretrained(path, trust_remote_code=options.trust_remote_code)
            loaded = AutoModelForCausalLM.from_pretrained(
                path,
                dtype=computed_in(getattr(torch, options.dtype), device),
                use_safetensors=True,
                trust_remote_code=options.trust_remote_code,
            )
        except (OSError, ValueError) as error:
            raise ModelError(f"transformers cannot load '{path}': {error}") from error
        from rayflow.engines.decode import Decoder
        from rayflow.engines.grouped_attention import use_grouped_attention

        self._model = loaded.to(device).eval()
        use_grouped_attention(self._model)
        self._decoder = Decoder(self._model, self._eos_ids())
        self._waiting: deque[_Request] = deque()
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="generate")

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
        """n candidates for one prompt [P] int32, together with what else waits; see `Engine.generate`.

        Raises:
            DataError: the prompt and max_tokens exceed `max_model_len`, or the model's output is not finite.
                Concerns this prompt only.
        """
        check_length(len(prompt_token_ids), sampling, self.max_model_len)
        request = _Request(prompt_token_ids, sampling, seed)
        self._waiting.append(request)
        # Not before the other coroutines that are ready have put their requests into the queue.
        asyncio.get_running_loop().call_soon(self._thread.submit, self._run_waiting)
        return await asyncio.wrap_future(request.answer)

    def _run_waiting(self) -> None:
        """Answer everything that waits; by another request's turn there may be nothing left."""
        taken = [self._waiting.popleft() for _ in range(len(self._waiting))]
        alive = [request for request in taken if request.answer.set_running_or_notify_cancel()]
        for batch in _batches(alive, self.options.max_batch_rows):
            self._answer(batch)

    def _answer(self, batch: Sequence[_Request]) -> None:
        """Run a batch; if it fails, its requests one by one, so that only the one to blame does."""
        try:
            answers = self._generate(batch)
        except Exception as error:  # whatever it is, somebody waits for it
            if len(batch) == 1:
                batch[0].answer.set_exception(error)
                return
        else:
            for request, answer in zip(batch, answers, strict=True):
                request.answer.set_result(answer)
            return
        for request in batch:
            self._answer([request])

    def _generate(self, batch: Sequence[_Request]) -> list[Generation]:
        """Candidates of requests with the same sampling; more rows than fit run one part after the other."""
        import torch

        sampling, num_rows = batch[0].sampling, batch[0].num_rows
        prompts = [torch.from_numpy(np.asarray(request.prompt, dtype=np.int64)) for request in batch]
        owners = torch.arange(len(batch)).repeat_interleave(num_rows)
        uniforms = torch.cat([_uniforms(request) for request in batch])
        parts = [
            self._decoder.decode(prompts, *part, sampling)
            for part in zip(
                *(each.split(self.options.max_batch_rows) for each in (owners, uniforms)), strict=True
            )
        ]
        columns = [
            torch.cat([getattr(part, name) for part in parts]).cpu().split(num_rows)
            for name in ("tokens", "logprobs", "lengths")
        ]
        return [self._collect(*(c.numpy() for c in each), sampling) for each in zip(*columns, strict=True)]

    def _eos_ids(self) -> list[int]:
        """Every id that ends a response: the tokenizer's and the model's (chat models often have two)."""
        own = self._model.generation_config.eos_token_id
        own = own if isinstance(own, list) else [own]
        return sorted({i for i in (*own, self._tokenizer.eos_token_id) if i is not None})

    def _collect(
        self, tokens: np.ndarray, logprobs: np.ndarray, lengths: np.ndarray, sampling: SamplingOptions
    ) -> Generation:
        """One prompt's candidates, each cut to its length (see `decode.Decoded`)."""
        repeats = sampling.num_candidates // len(tokens)
        tokens, logprobs, lengths = (np.repeat(each, repeats, axis=0) for each in (tokens, logprobs, lengths))
        token_ids = tuple(row[:size].astype(np.int32) for row, size in zip(tokens, lengths, strict=True))
        within = np.arange(tokens.shape[1]) < lengths[:, None]
        eos = set(self._eos_ids())
        return Generation(
            responses=tuple(self._tokenizer.batch_decode(token_ids, skip_special_tokens=True)),
            token_ids=token_ids,
            logprobs=np.where(within, logprobs, 0.0).sum(axis=1, dtype=np.float32),
            finish_reasons=tuple("stop" if int(ids[-1]) in eos else "length" for ids in token_ids),
        )

    def close(self) -> None:
        """Drop the model; safe to call twice."""
        if self._model is not None:
            self._thread.shutdown()
            self._model = self._decoder = None


def _batches(requests: Sequence[_Request], max_rows: int) -> Iterator[list[_Request]]:
    """Requests with the same sampling, of about the same length (padding costs), up to `max_rows` rows or one."""
    by_sampling: dict[SamplingOptions, list[_Request]] = {}
    for request in requests:
        by_sampling.setdefault(request.sampling, []).append(request)
    for alike in by_sampling.values():
        alike.sort(key=lambda request: len(request.prompt))
        size = max(1, max_rows // alike[0].num_rows)
        yield from (alike[i : i + size] for i in range(0, len(alike), size))


def _uniforms(request: _Request) -> Any:
    """[n, max_tokens] float64 in [0, 1), from the request's own seed; not from torch's global generators."""
    import torch

    generator = torch.Generator().manual_seed(request.seed)
    return torch.rand(request.num_rows, request.sampling.max_tokens, dtype=torch.float64, generator=generator)
