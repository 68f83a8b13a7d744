"""The accelerators of this machine: asked for before time is spent, hidden, and freed."""

from __future__ import annotations

import gc
import os
import sys

from rayflow.errors import StageError


def num_gpus() -> int:
    """How many torch sees on this machine."""
    import torch

    return torch.cuda.device_count()


def require_gpus(count: int) -> None:
    """Refuse to go on without `count` GPUs.

    Raises:
        StageError: fewer are visible to torch on this machine.
    """
    found = num_gpus()
    if found < count:
        raise StageError(
            f"The configuration asks for {count} GPU(s) on this machine, which has {found}. Set num_gpus to 0 "
            "in the compute block, or run on a machine with GPUs (compute.address)."
        )


NO_GPUS = {"CUDA_VISIBLE_DEVICES": ""}
"""The environment of a process that computes on cores."""


def hide_gpus() -> None:
    """Let this process compute on cores: for workers that Ray has given no GPU.

    Ray leaves all of the machine's GPUs visible to them, where they would take memory that others count on.
    """
    os.environ.update(NO_GPUS)


def free_gpu_memory() -> None:
    """Give back what models that are gone have left: torch keeps it for itself, and other processes want it."""
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_initialized():
        gc.collect()
        torch.cuda.empty_cache()
