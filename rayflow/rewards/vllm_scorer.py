"""A sequence classifier in vLLM's pooling runner. Sequences in: a prompt with each response, as token ids.
Out: the head's raw values at the last token of each.

The sequences of one call begin alike, and vLLM's prefix cache computes what whole blocks of them share once. It
reads the last token of the ids that it is given, so a text that ends in EOS is read there, whatever the pad token.
"""

from __future__ import annotations

from collections.abc import Sequence
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

import numpy as np

from rayflow.core.arithmetic import computed_in
from rayflow.core.vllm_settings import cpu_arguments, quiet, require_device, use_all_cores
from rayflow.errors import EngineDeadError, MissingPackageError, ModelError, RewardError, StageError

if TYPE_CHECKING:
    import torch

_UNLIMITED = 1 << 30
"""A model without a longest sequence; vLLM then takes what its cache holds."""


TESTED = frozenset({"llama", "mistral"})
"""Families for which tests show that vLLM gives the float32 scores of transformers."""


def vllm_serves(config: Any) -> bool:
    """Whether vLLM is installed, and tests show that it scores with a model of this configuration."""
    return find_spec("vllm") is not None and config.model_type in TESTED


class VllmScorer:
    """Starts an engine with the classifier.

    Args:
        path: folder or hub id of the model.
        dtype: of the weights and the forward pass, as torch calls it.
        max_length: longest sequence in tokens.
        gpu_memory_utilization: share of a GPU's memory that vLLM may take.

    Raises:
        MissingPackageError: vLLM is not installed.
        ModelError: vLLM does not serve the model.
        StageError: the engine did not start (memory, devices).
    """

    def __init__(self, path: str, dtype: torch.dtype, max_length: int, gpu_memory_utilization: float) -> None:
        quiet()
        try:
            from vllm import LLM
            from vllm.platforms import current_platform
        except ImportError as error:
            raise MissingPackageError.of(
                error.name or "vllm", "backend: vllm of the classifier", "gpu"
            ) from error
        require_device(current_platform, num_gpus=1)
        arguments: dict[str, Any] = {"gpu_memory_utilization": gpu_memory_utilization}
        if current_platform.is_cpu():
            use_all_cores()
            arguments = {"enforce_eager": True, **cpu_arguments(None)}
        try:
            self._llm: Any = LLM(
                model=path,
                runner="pooling",
                convert="classify",
                # Never vLLM's "auto", which would make float32 weights bfloat16.
                dtype=computed_in(dtype, current_platform.device_type),
                max_model_len=None if max_length >= _UNLIMITED else max_length,
                enable_prefix_caching=True,
                load_format="safetensors",
                trust_remote_code=False,
                disable_log_stats=True,
                **arguments,
            )
        except (ValueError, OSError, TypeError) as error:
            raise ModelError(
                f"vLLM cannot score with '{path}': {error} Set the reward's backend to transformers."
            ) from error
        except RuntimeError as error:
            raise StageError(
                f"vLLM did not start for '{path}': {error} The lines above, from its own processes, say why. "
                "Often it is memory: try a smaller gpu_memory_utilization or max_length."
            ) from error

    def logits(self, sequences: Sequence[list[int]]) -> np.ndarray:
        """Raw values of the head, no sigmoid: [n, labels] float64.

        Raises:
            EngineDeadError: the engine is dead; the worker must be replaced.
            RewardError: vLLM refuses a sequence.
        """
        from vllm import PoolingParams
        from vllm.v1.engine.exceptions import EngineDeadError as CoreDeadError

        if self._llm is None:
            raise StageError("The reward's vllm engine is closed.")
        try:
            outputs = self._llm.encode(
                [{"prompt_token_ids": ids} for ids in sequences],
                pooling_params=PoolingParams(use_activation=False),
                pooling_task="classify",
                use_tqdm=False,
            )
        except CoreDeadError as error:
            raise EngineDeadError("vLLM's engine process has died; its worker must be replaced.") from error
        except ValueError as error:
            raise RewardError(f"vLLM refused a conversation: {error}") from error
        return np.stack([output.outputs.data.double().cpu().numpy().reshape(-1) for output in outputs])

    def close(self) -> None:
        """End the engine's process; safe to call twice."""
        llm, self._llm = self._llm, None
        if llm is not None:
            llm.llm_engine.engine_core.shutdown()
