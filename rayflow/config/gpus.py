"""What settings say about engines and GPUs that does not go together: found before anything is started."""

from __future__ import annotations

from rayflow.config.blocks import PoolOptions
from rayflow.core.options import KindOptions


def check_engine(key: str, engine: KindOptions, pool_key: str, pool: PoolOptions) -> None:
    """An engine over several GPUs needs that many in its worker; engines that share one share its memory.

    Args:
        key, engine: the engine's block, or that of a reward that vLLM computes, and its name.
        pool_key, pool: that of its workers.

    Raises:
        ValueError: what to set to what.
    """
    gpus, size = pool.num_gpus, getattr(engine, "tensor_parallel_size", 1)
    if gpus and size > 1 and gpus != size:
        raise ValueError(
            f"{key}.tensor_parallel_size is {size}, so each of its workers needs that many GPUs: "
            f"set {pool_key}.num_gpus to {size} (now {gpus:g})"
        )
    share = getattr(engine, "gpu_memory_utilization", 0.0)
    if 0 < gpus < 1 and share > gpus:
        raise ValueError(
            f"{pool_key}.num_gpus is {gpus:g}, so workers share a GPU, but each engine takes {share:g} of its "
            f"memory: set {key}.gpu_memory_utilization to {gpus:g} or less"
        )


def check_room(key: str, engine: KindOptions, max_tokens: int) -> None:
    """A response as long as it may be, and at least one token before it, must fit into the engine's sequences.

    Args:
        key, engine: the block that draws, such as "sample", and its engine.
        max_tokens: the block's, the limit of a response.

    Raises:
        ValueError: every prompt would be refused as too long.
    """
    longest = getattr(engine, "max_model_len", None)
    if longest is not None and max_tokens >= longest:
        raise ValueError(
            f"{key}.max_tokens is {max_tokens}, and {key}.engine.max_model_len is {longest}, for prompt and response "
            f"together: no prompt has room. Lower {key}.max_tokens, or raise {key}.engine.max_model_len"
        )


def computed_by_vllm(reward: KindOptions | None) -> bool:
    """Whether a reward is told to be computed by vLLM."""
    return getattr(reward, "backend", None) == "vllm"
