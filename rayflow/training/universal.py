"""DeepSpeed's checkpoints in its universal form, a file for every weight, which any number of workers reads."""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import io
import os
import shutil
import time
from pathlib import Path
from typing import Any

import torch

from rayflow.training.deepspeed_library import tensors_only

_DONE = "converted-from"
"""Written last: the fingerprint of the checkpoint that the folder was made from."""
_POLL_S = 1.0


def convert(folder: Path, tag: str, target: Path) -> None:
    """Make `target` the universal form of the checkpoint in `folder`, unless an earlier try has.

    One process does it: a pool would fork this one, which holds threads and perhaps a GPU.

    Args:
        folder: of a checkpoint that DeepSpeed's engines saved.
        tag: DeepSpeed's name of it, of the universal one too.
        target: a folder that all machines see.
    """
    from deepspeed.checkpoint import ds_to_universal

    source = _fingerprint(folder)
    if _is_made_from(source, target):
        return
    shutil.rmtree(target, ignore_errors=True)
    arguments = argparse.Namespace(
        input_folder=str(folder / tag),
        output_folder=str(target / tag),
        num_extract_workers=1,
        num_merge_workers=1,
        keep_temp_folder=False,
        strict=True,
        inject_missing_state=True,  # for tensor parallelism, of which there is none here
    )
    noise = io.StringIO()
    with contextlib.redirect_stdout(noise), contextlib.redirect_stderr(noise), tensors_only():
        ds_to_universal.main(arguments)
    partial = target / f"{_DONE}.partial"
    partial.write_text(source)
    os.replace(partial, target / _DONE)


def wait_for(folder: Path, target: Path) -> None:
    """Return when `convert` has finished in another process, however long it takes.

    Not with a collective: that of a large model takes longer than a collective may.
    """
    source = _fingerprint(folder)
    while not _is_made_from(source, target):
        time.sleep(_POLL_S)


def own_steps(optimizer: Any) -> None:
    """Give every parameter a count of steps of its own, on its device.

    DeepSpeed's universal load leaves it on the CPU, and under ZeRO-3 one tensor to all parts. The fused AdamW adds to
    each in place where the parameter is: an illegal access on a GPU, and several steps counted for one.
    """
    for parameter, state in optimizer.state.items():
        if "step" in state:
            state["step"] = torch.tensor(float(state["step"]), dtype=torch.float32, device=parameter.device)


def _is_made_from(source: str, target: Path) -> bool:
    try:
        return (target / _DONE).read_text() == source
    except OSError:
        return False


def _fingerprint(folder: Path) -> str:
    """Of the names and sizes of a checkpoint's files, and of its lists of checksums."""
    digest = hashlib.sha256()
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        digest.update(f"{path.relative_to(folder).as_posix()} {path.stat().st_size}\n".encode())
        if path.parent == folder and path.suffix == ".json":
            digest.update(path.read_bytes())
    return digest.hexdigest()
