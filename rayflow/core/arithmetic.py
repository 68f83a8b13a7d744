"""The number type that a model computes in on the machine it runs on.

GPUs and server processors compute in half precision. Many laptops' processors do not, and PyTorch then goes through
their vectors number by number, several times slower than float32. There the same weights compute in float32: it rounds
less, and nothing else changes.
"""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch


def computed_in(dtype: torch.dtype, device: torch.device | str) -> torch.dtype:
    """`dtype`, or float32 where the device has no arithmetic for a `dtype` of 16 bits.

    Args:
        dtype: what the settings ask for.
        device: such as "cpu" or "cuda:0".
    """
    import torch

    return dtype if not str(device).startswith("cpu") or processor_has(dtype) else torch.float32


@cache
def processor_has(dtype: torch.dtype) -> bool:
    """Whether this machine's processor multiplies matrices of `dtype` with instructions for it."""
    import torch

    asked = {
        torch.bfloat16: "_is_mkldnn_bf16_supported",
        torch.float16: "_is_mkldnn_fp16_supported",
    }.get(dtype)
    if asked is None:
        return True
    known = getattr(torch.ops.mkldnn, asked, None)  # missing where PyTorch is built without oneDNN
    return bool(known and known())
