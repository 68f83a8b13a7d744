"""The most memory that training has held, for the metrics of every step."""

from __future__ import annotations

import resource
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch

from rayflow.training.metrics import PEAK_GPU, PEAK_RSS

if TYPE_CHECKING:
    from rayflow.training.backend import Backend
    from rayflow.training.metrics import Metrics

_NAMES = (PEAK_RSS, PEAK_GPU)


def peak_memory() -> np.ndarray:
    """[2] float64, bytes, of this process so far: resident memory, and what torch held on its GPU (0: none)."""
    gpu = torch.cuda.max_memory_allocated() if torch.cuda.is_available() else 0
    return np.array([_peak_resident(), gpu], dtype=np.float64)


def _peak_resident() -> int:
    """Bytes. Linux's own counter first: `getrusage` also counts what the process that started this one held."""
    status = Path("/proc/self/status")
    if status.exists():
        for line in status.read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def add_up_with_memory(backend: Backend, totals: np.ndarray) -> tuple[np.ndarray, Metrics]:
    """Sums over the workers, and the largest worker's peak memory, in one exchange.

    Args:
        backend: set up.
        totals: [n] float64 of this worker.

    Returns:
        [n] float64, and the two metrics of memory; the GPU's only where there is one.
    """
    own = np.zeros((backend.world_size, len(_NAMES)))  # a sum is all that the backend offers: a row for each
    own[backend.rank] = peak_memory()
    summed = backend.add_up(np.concatenate([totals, own.ravel()]))
    most = summed[len(totals) :].reshape(own.shape).max(axis=0)
    return summed[: len(totals)], {name: float(v) for name, v in zip(_NAMES, most, strict=True) if v}
