"""What every vLLM of this project is started with, the sampler and the scorer. Imports no vllm."""

from __future__ import annotations

import os
from typing import Any

from rayflow.core.cores import cores_to_share
from rayflow.core.memory import keep_freed_memory_in_children
from rayflow.errors import StageError

_QUIET = {"VLLM_LOGGING_LEVEL": "ERROR", "VLLM_NO_USAGE_STATS": "1"}
_CPU_KV_CACHE_GIB = 2.0
_CPU_BLOCK_SIZE = 32


def quiet() -> None:
    """Errors only, and nothing sent home; to be called before vllm is imported."""
    for name, value in _QUIET.items():
        os.environ.setdefault(name, value)


def require_device(platform: Any, num_gpus: int) -> None:
    """Refuse to start vLLM's build for GPUs where this process sees none. It would fail late, and speak of memory.

    Args:
        platform: `vllm.platforms.current_platform`.
        num_gpus: for the message, how many its worker should have.

    Raises:
        StageError: with what to set.
    """
    # vLLM asks the driver, which knows nothing of what is hidden from a process (`core.devices.hide_gpus`).
    hidden = not platform.is_cpu() and os.environ.get("CUDA_VISIBLE_DEVICES") == ""
    if hidden or platform.is_unspecified():
        raise StageError(
            f"vLLM is built for GPUs, and this worker has none. Set num_gpus: {num_gpus} for the stage in the compute "
            "block, or install vLLM for CPUs: bash cluster/install.sh cpu."
        )


def cpu_arguments(kv_cache_gib: float | None) -> dict[str, Any]:
    """Engine arguments that differ on CPU, whatever the engine is for; sets the environment of its processes.

    Args:
        kv_cache_gib: as the user has set it; None takes 2 GiB, unless VLLM_CPU_KVCACHE_SPACE says otherwise.
    """
    keep_freed_memory_in_children()
    # Only whole blocks are shared between candidates, and vLLM's 128 is longer than most prompts.
    arguments: dict[str, Any] = {"block_size": _CPU_BLOCK_SIZE}
    if kv_cache_gib is None and not os.environ.get("VLLM_CPU_KVCACHE_SPACE"):
        # An explicit size also skips the warm-up pass, which would only measure memory.
        arguments["kv_cache_memory_bytes"] = int(_CPU_KV_CACHE_GIB * 2**30)
    return arguments


def use_all_cores() -> None:
    """Let the CPU engine compute on every core of a small machine, unless the user has bound its threads.

    vLLM keeps one core free for its scheduler, which is half of a two-core machine, and Ray sets
    OMP_NUM_THREADS to the actor's num_cpus, by default 1. More than one is taken as the actor's share: that
    many threads, and none pinned, since the other actors of the node would be pinned to the same cores.
    """
    if "VLLM_CPU_OMP_THREADS_BIND" in os.environ:
        return
    if int(os.environ.get("OMP_NUM_THREADS") or 1) > 1:
        os.environ["VLLM_CPU_OMP_THREADS_BIND"] = "nobind"
    elif cores := cores_to_share():  # on a larger one vLLM's NUMA-aware choice is better
        os.environ["VLLM_CPU_OMP_THREADS_BIND"] = ",".join(map(str, cores))
