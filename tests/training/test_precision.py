"""Workers that add up their gradients compute in one type, whatever each one's processor could."""

from __future__ import annotations

import multiprocessing
from pathlib import Path

import pytest
import torch

from rayflow.training import deepspeed
from rayflow.training.deepspeed import DeepSpeedBackend


def _ask(rank: int, has_half: tuple[bool, ...], store: Path, answers) -> None:
    deepspeed.computed_in = lambda dtype, device: dtype if has_half[rank] else torch.float32
    torch.distributed.init_process_group(
        "gloo", init_method=f"file://{store}", rank=rank, world_size=len(has_half)
    )
    backend = DeepSpeedBackend()
    answers.put((rank, backend._precision("bfloat16"), backend._precision("float32")))
    torch.distributed.barrier()
    torch.distributed.destroy_process_group()


@pytest.mark.parametrize(("has_half", "agreed"), [((True, True), "bfloat16"), ((True, False), "float32")])
def test_all_workers_take_what_the_weakest_can(tmp_path, monkeypatch, has_half, agreed):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    context = multiprocessing.get_context("spawn")
    answers = context.Queue()
    workers = [
        context.Process(target=_ask, args=(rank, has_half, tmp_path / "store", answers)) for rank in range(2)
    ]
    for worker in workers:
        worker.start()
    found = sorted(answers.get(timeout=120) for _ in workers)
    for worker in workers:
        worker.join()
    assert found == [(rank, agreed, "float32") for rank in range(2)]
