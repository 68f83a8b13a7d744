"""Let a process on CPU keep the memory that it frees.

A step of a language model allocates and frees tensors of tens of megabytes. glibc gives such blocks back to the
system at once, and fetching and clearing their pages again takes about a tenth of a step's time. The
process then stays at its peak size, which it would reach again in the next step anyway.
"""

from __future__ import annotations

import ctypes
import os
from functools import cache

_TOP_PAD = 2**28
_ENVIRONMENT = {
    "MALLOC_MMAP_MAX_": "0",
    "MALLOC_TRIM_THRESHOLD_": str(2**34),
    "MALLOC_TOP_PAD_": str(_TOP_PAD),
}
_MALLOPT = ((-4, 0), (-1, 2**31 - 1), (-2, _TOP_PAD))  # M_MMAP_MAX, M_TRIM_THRESHOLD, M_TOP_PAD


@cache
def keep_freed_memory() -> None:
    """For this process, from now on; nothing where the C library is not glibc or the user has tuned it."""
    if _is_tuned():
        return
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        for parameter, value in _MALLOPT:
            mallopt(parameter, value)


def keep_freed_memory_in_children() -> None:
    """For the processes that this one starts: glibc reads these settings when a process begins."""
    if not _is_tuned():
        os.environ.update(_ENVIRONMENT)


def _is_tuned() -> bool:
    return any(name in os.environ for name in _ENVIRONMENT) or "GLIBC_TUNABLES" in os.environ
