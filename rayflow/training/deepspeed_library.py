"""DeepSpeed as a library: how it is imported, what it may load, and where its logs go."""

from __future__ import annotations

import contextlib
import logging
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch

from rayflow.errors import MissingPackageError

_WEIGHTS_ONLY = "TORCH_FORCE_WEIGHTS_ONLY_LOAD"


@contextlib.contextmanager
def tensors_only() -> Iterator[None]:
    """While the block runs, no pickle brings code: torch.load reads tensors, plain values and DeepSpeed's records.

    DeepSpeed asks torch.load for whole pickles; this variable of PyTorch overrules it.
    """
    import_deepspeed()
    from deepspeed.runtime.fp16.loss_scaler import LossScaler
    from deepspeed.runtime.zero.config import ZeroStageEnum
    from deepspeed.utils.tensor_fragment import fragment_address

    before = os.environ.get(_WEIGHTS_ONLY)
    os.environ[_WEIGHTS_ONLY] = "1"
    try:
        with torch.serialization.safe_globals([LossScaler, ZeroStageEnum, fragment_address]):
            yield
    finally:
        if before is None:
            del os.environ[_WEIGHTS_ONLY]
        else:
            os.environ[_WEIGHTS_ONLY] = before


def import_deepspeed() -> Any:
    if not torch.cuda.is_available():
        os.environ.setdefault("DS_ACCELERATOR", "cpu")
    try:
        import deepspeed
    except ImportError as error:
        raise MissingPackageError("deepspeed", "Training on several workers", "train") from error
    return deepspeed


@contextlib.contextmanager
def logs_to(path: Path) -> Iterator[None]:
    """Send this process's library logs to a file instead of the terminal."""
    import_deepspeed()
    path.parent.mkdir(parents=True, exist_ok=True)
    handler = logging.FileHandler(path)
    handler.setFormatter(logging.Formatter("%(asctime)s %(name)s %(levelname)s %(message)s"))
    logging.captureWarnings(True)
    names = ("DeepSpeed", "rayflow", "py.warnings", "transformers")
    loggers = [logging.getLogger(name) for name in names]
    before = [(log.handlers, log.propagate) for log in loggers]
    for log in loggers:
        log.handlers, log.propagate = [handler], False
    try:
        yield
    finally:
        for log, (handlers, propagate) in zip(loggers, before, strict=True):
            log.handlers, log.propagate = handlers, propagate
        handler.close()
