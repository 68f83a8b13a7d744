"""The sampler of real runs: vLLM's asynchronous engine. Row in: a prompt's token ids. Row out: n candidates.

One request carries a prompt with all its n candidates, so the prompt is computed once and its cache blocks
are shared. Requests of many prompts run at once; the caller only keeps enough `generate` calls in flight.
"""

from __future__ import annotations

import asyncio
import uuid
from typing import Any, ClassVar, Literal

import numpy as np
from pydantic import Field

from rayflow.core.arithmetic import computed_in
from rayflow.core.model_folder import check_model_folder, loadable
from rayflow.core.options import KindOptions
from rayflow.core.vllm_settings import cpu_arguments, quiet, require_device, use_all_cores
from rayflow.engines.base import Generation, SamplingOptions
from rayflow.engines.limits import check_length
from rayflow.errors import DataError, EngineDeadError, MissingPackageError, ModelError, StageError

_CPU_MAX_NUM_SEQS = 256


class VllmEngine:
    """vLLM's `AsyncLLM` behind the engine interface; it must be used from one event loop."""

    class Config(KindOptions):
        """Settings. None leaves the choice to vLLM, on CPU to values measured for this use.

        Attributes:
            dtype: of the weights and the forward pass.
            max_model_len: longest sequence in tokens; None takes the model's own limit.
            tensor_parallel_size: GPUs that one copy of the model is spread over.
            gpu_memory_utilization: share of a GPU's memory that vLLM may take.
            kv_cache_gib: size of the key-value cache in GiB; None: the rest of that share, 2 on CPU.
            max_num_seqs: candidates that are decoded at once; None: as `vllm.LLM` chooses for the GPU, 256 on CPU.
            enforce_eager: no graph capture or compilation: starts faster, decodes slower. None: off on GPUs, on on
                CPU, where compiling takes about a minute at every start and decodes a tenth to a quarter faster.
            enable_prefix_caching: share the blocks of a prompt between its candidates.
            trust_remote_code: run Python code that comes with the model.
            extra: further arguments of vLLM's AsyncEngineArgs; they win over everything above.
        """

        HARDWARE: ClassVar[frozenset[str]] = frozenset(
            {"tensor_parallel_size", "gpu_memory_utilization", "kv_cache_gib", "max_num_seqs"}
            | {"enforce_eager", "enable_prefix_caching"}
        )

        kind: str = "vllm"
        dtype: Literal["auto", "float32", "bfloat16", "float16"] = "bfloat16"
        max_model_len: int | None = Field(default=None, gt=0)
        tensor_parallel_size: int = Field(default=1, gt=0)
        gpu_memory_utilization: float = Field(default=0.9, gt=0, le=1)
        kv_cache_gib: float | None = Field(default=None, gt=0)
        max_num_seqs: int | None = Field(default=None, gt=0)
        enforce_eager: bool | None = None
        enable_prefix_caching: bool = True
        trust_remote_code: bool = False
        extra: dict[str, Any] = {}

    def __init__(self, options: Config) -> None:
        self.options = options
        self._engine: Any = None
        self._tokenizer: Any = None
        self._max_model_len = 0
        self._loop: asyncio.AbstractEventLoop | None = None

    def setup(self, model: str) -> None:
        """Start the engine; see `Engine.setup`.

        Raises:
            StageError: the model is readable, but the engine did not start (memory, devices).
        """
        check_model_folder(model)
        quiet()
        try:
            from vllm.engine.arg_utils import AsyncEngineArgs
            from vllm.platforms import current_platform
            from vllm.usage.usage_lib import UsageContext
            from vllm.v1.engine.async_llm import AsyncLLM
        except ImportError as error:
            raise MissingPackageError.of(error.name or "vllm", "The vllm engine", "gpu") from error
        require_device(current_platform, self.options.tensor_parallel_size)
        path = loadable(model)
        is_cpu = current_platform.is_cpu()
        arguments = self._arguments(path, is_cpu)
        # Batches as `vllm.LLM` makes them, 1,024 sequences on a large GPU. With no usage named they would be 128.
        usage = None if is_cpu else UsageContext.LLM_CLASS
        try:
            config = AsyncEngineArgs(**arguments).create_engine_config(usage)
        except (ValueError, OSError, TypeError) as error:
            raise ModelError(f"vLLM cannot use '{path}' with these settings: {error}") from error
        try:
            self._engine = AsyncLLM.from_vllm_config(config, disable_log_stats=True)
        except (RuntimeError, ValueError) as error:
            raise StageError(
                f"vLLM did not start for '{path}': {error} The lines above, from its own processes, say why. "
                "Often it is memory: try a smaller kv_cache_gib, gpu_memory_utilization or max_model_len."
            ) from error
        self._max_model_len = config.model_config.max_model_len
        self._tokenizer = self._engine.renderer.tokenizer

    def _arguments(self, path: str, is_cpu: bool) -> dict[str, Any]:
        """Arguments of AsyncEngineArgs."""
        options = self.options
        arguments: dict[str, Any] = {
            "model": path,
            "dtype": options.dtype,
            "max_model_len": options.max_model_len,
            "tensor_parallel_size": options.tensor_parallel_size,
            "gpu_memory_utilization": options.gpu_memory_utilization,
            "max_num_seqs": options.max_num_seqs,
            "enforce_eager": bool(options.enforce_eager),
            "enable_prefix_caching": options.enable_prefix_caching,
            "trust_remote_code": options.trust_remote_code,
            "load_format": "safetensors",
            "logprobs_mode": "raw_logprobs",  # before temperature and truncation: log pi(y|x)
        }
        if options.kv_cache_gib is not None:
            arguments["kv_cache_memory_bytes"] = int(options.kv_cache_gib * 2**30)
        if options.tensor_parallel_size > 1:
            # All GPUs of the engine are its worker's own. Inside an actor vLLM might ask Ray for others.
            arguments["distributed_executor_backend"] = "mp"
        if is_cpu:
            if options.tensor_parallel_size == 1:
                use_all_cores()
            arguments |= self._cpu_arguments()
        return arguments | options.extra

    def _cpu_arguments(self) -> dict[str, Any]:
        """What differs on CPU."""
        import torch

        options = self.options
        # vLLM's "auto" is a half precision, whatever the weights are stored in.
        wanted = torch.bfloat16 if options.dtype == "auto" else getattr(torch, options.dtype)
        computed = computed_in(wanted, "cpu")
        arguments: dict[str, Any] = {
            "dtype": options.dtype if computed == wanted else computed,
            # A chunked prefill rewinds the request's generator, which torch's CPU generators cannot: a seeded
            # request would end the engine. Without it vLLM batches at least max_model_len tokens.
            "enable_chunked_prefill": False,
            "enforce_eager": options.enforce_eager is not False,
            "max_num_seqs": options.max_num_seqs or _CPU_MAX_NUM_SEQS,
        }
        return arguments | cpu_arguments(options.kv_cache_gib)

    @property
    def tokenizer(self) -> Any:
        """The model's tokenizer."""
        return self._tokenizer

    @property
    def max_model_len(self) -> int:
        """Longest sequence, prompt and response together, in tokens."""
        return self._max_model_len

    async def generate(
        self, prompt_token_ids: np.ndarray, sampling: SamplingOptions, seed: int
    ) -> Generation:
        """n candidates for one prompt [P] int32; see `Engine.generate`.

        Raises:
            DataError: the prompt is too long, or vLLM refuses it. Concerns this prompt only.
            EngineDeadError: the engine is dead; the worker must be replaced.
        """
        from vllm.exceptions import VLLMClientError
        from vllm.inputs.engine import tokens_input
        from vllm.v1.engine.exceptions import EngineDeadError as CoreDeadError
        from vllm.v1.engine.exceptions import EngineGenerateError

        check_length(len(prompt_token_ids), sampling, self.max_model_len)
        self._require_engine()
        request = tokens_input(np.asarray(prompt_token_ids).tolist())
        final = None
        try:
            async for output in self._engine.generate(request, _params(sampling, seed), uuid.uuid4().hex):
                final = output
        except CoreDeadError as error:
            raise EngineDeadError("vLLM's engine process has died; its worker must be replaced.") from error
        except (VLLMClientError, ValueError) as error:
            raise DataError(f"vLLM refused the prompt: {error}") from error
        except EngineGenerateError as error:  # vLLM wraps what went wrong with this one request
            raise DataError(f"vLLM failed on the prompt: {error.__cause__!r}") from error
        return self._collect(final.outputs, sampling)

    def _require_engine(self) -> None:
        """The engine's sockets belong to the loop of the first call: another loop would wait for ever."""
        if self._engine is None:
            raise StageError("The vllm engine is closed.")
        loop = asyncio.get_running_loop()
        self._loop = self._loop or loop
        if self._loop is not loop:
            raise StageError("The vllm engine was used from two event loops; keep all requests in one.")

    def _collect(self, outputs: list[Any], sampling: SamplingOptions) -> Generation:
        """vLLM's completions in candidate order. Their ids hold the EOS that ended them."""
        if len(outputs) < sampling.num_candidates:
            outputs = list(outputs) * sampling.num_candidates  # greedy: see `_params`
        token_ids = tuple(np.asarray(output.token_ids, dtype=np.int32) for output in outputs)
        return Generation(
            responses=tuple(self._tokenizer.batch_decode(token_ids, skip_special_tokens=True)),
            token_ids=token_ids,
            logprobs=np.array([output.cumulative_logprob for output in outputs], dtype=np.float32),
            finish_reasons=tuple(output.finish_reason for output in outputs),
        )

    def close(self) -> None:
        """End the engine's processes; safe to call twice."""
        engine, self._engine = self._engine, None
        if engine is not None:
            engine.shutdown()


def _params(sampling: SamplingOptions, seed: int) -> Any:
    """vLLM's SamplingParams; candidate i draws with seed + i."""
    from vllm import SamplingParams
    from vllm.sampling_params import RequestOutputKind

    return SamplingParams(
        # Greedy candidates are identical, and vLLM refuses n > 1 for them: one is computed and repeated.
        n=sampling.num_candidates if sampling.temperature > 0 else 1,
        temperature=sampling.temperature,
        top_k=sampling.top_k,
        top_p=sampling.top_p,
        max_tokens=sampling.max_tokens,
        seed=seed,
        logprobs=0,  # the drawn token's own, nothing else
        output_kind=RequestOutputKind.FINAL_ONLY,
        detokenize=False,  # whole responses are decoded at once when they are finished
    )
