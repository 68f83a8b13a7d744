"""DeepSpeed as a library: how it is imported, what it may load, and where its logs go."""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import logging
import os
import platform
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch

from rayflow.errors import MissingPackageError

_BUILDS = "TORCH_EXTENSIONS_DIR"
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
        raise MissingPackageError.of("deepspeed", "Training on several workers", "train") from error
    return deepspeed


def compile_collectives() -> None:
    """On a CPU, have DeepSpeed's collectives ready: compiled once per machine and installation, then only loaded.

    PyTorch guards a build with a file. A process that is killed meanwhile leaves it behind, and every later one waits
    for it without an end. So the build has a folder of its own and a lock that the kernel takes back from the dead:
    whoever holds that knows that such a file is nobody's.
    """
    deepspeed = import_deepspeed()
    from deepspeed.accelerator import get_accelerator
    from deepspeed.comm.torch import build_shm_op

    if get_accelerator().device_name() != "cpu":
        return  # a GPU has its own, and needs no folder to write to
    before = os.environ.get(_BUILDS)
    installed = hashlib.sha256(f"{deepspeed.__file__} {torch.__version__}".encode()).hexdigest()[:12]
    base = Path(before) if before else Path.home() / ".cache" / "torch_extensions"
    folder = base / f"rayflow-{platform.node()}-{installed}"
    folder.mkdir(parents=True, exist_ok=True)
    with open(folder / "build.lock", "w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        for left in folder.glob("*/lock"):
            left.unlink()
        os.environ[_BUILDS] = str(folder)
        try:
            build_shm_op()  # DeepSpeed keeps what it has loaded, and does not build again
        finally:
            if before is None:
                del os.environ[_BUILDS]
            else:
                os.environ[_BUILDS] = before


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
