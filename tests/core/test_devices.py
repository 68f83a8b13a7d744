"""What is said of accelerators on a machine that has none, and what is hidden from a process."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from rayflow.core import devices
from rayflow.errors import StageError


def test_more_gpus_than_there_are_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.cuda.device_count", lambda: 1)
    devices.require_gpus(1)
    with pytest.raises(StageError, match="asks for 2 GPU.s. on this machine, which has 1"):
        devices.require_gpus(2)


def test_hidden_gpus_are_hidden_from_this_process_and_from_those_it_starts(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,1")
    devices.hide_gpus()
    assert os.environ["CUDA_VISIBLE_DEVICES"] == ""
    code = "import torch; print(torch.cuda.device_count())"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "0"


def test_memory_is_freed_where_a_gpu_was_used_and_torch_is_not_loaded_for_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    import torch

    emptied: list[bool] = []
    monkeypatch.setattr("torch.cuda.empty_cache", lambda: emptied.append(True))
    for used in (False, True):
        monkeypatch.setattr("torch.cuda.is_initialized", lambda used=used: used)
        devices.free_gpu_memory()
        assert emptied == [True] * used
    monkeypatch.delitem(sys.modules, "torch")
    devices.free_gpu_memory()
    assert "torch" not in sys.modules and emptied == [True]
    sys.modules["torch"] = torch
