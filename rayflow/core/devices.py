"""What accelerators this machine has, asked before time is spent."""

from __future__ import annotations

from rayflow.errors import StageError


def require_gpus(count: int) -> None:
    """Refuse to go on without `count` GPUs.

    Raises:
        StageError: fewer are visible to torch on this machine.
    """
    import torch

    found = torch.cuda.device_count()
    if found < count:
        raise StageError(
            f"The configuration asks for {count} GPU(s) on this machine, which has {found}. Set num_gpus to 0 "
            "in the compute block, or run on a machine with GPUs (compute.address)."
        )
