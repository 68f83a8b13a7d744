"""Training workers as plain processes of one test, without Ray: started, asked, and gone."""

from __future__ import annotations

import multiprocessing
import os
import socket
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from rayflow.training.loop import TrainJob
from rayflow.training.metrics import Metrics


def run_workers(num_workers: int, work: Callable[..., Any], *arguments: Any) -> list[Any]:
    """What `work(*arguments)` returns on each of some processes that share a process group, by rank."""
    context = multiprocessing.get_context("spawn")
    answers = context.Queue()
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    workers = [
        context.Process(target=_worker, args=(rank, num_workers, port, answers, work, arguments))
        for rank in range(num_workers)
    ]
    for worker in workers:
        worker.start()
    found = {}
    try:
        for _ in workers:
            rank, result, error = answers.get(timeout=300)
            assert error is None, f"worker {rank}: {error}"
            found[rank] = result
    finally:
        for worker in workers:
            if len(found) < num_workers:
                worker.kill()
            worker.join()
    return [found[rank] for rank in range(num_workers)]


def _worker(
    rank: int, num_workers: int, port: int, answers: Any, work: Callable[..., Any], arguments: Any
) -> None:
    ranks = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": num_workers, "LOCAL_WORLD_SIZE": num_workers}
    os.environ |= {name: str(value) for name, value in ranks.items()}
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "CUDA_VISIBLE_DEVICES": ""}
    torch.set_num_threads(1)  # of one machine, and the same sums whatever the number of workers
    torch.distributed.init_process_group("gloo", rank=rank, world_size=num_workers)
    try:
        answers.put((rank, work(*arguments), None))
        torch.distributed.barrier()
        torch.distributed.destroy_process_group()
    except Exception:
        answers.put((rank, None, traceback.format_exc()))
        raise


def compute_in_half() -> None:
    """Let this process compute in bfloat16, also where its processor is slow at it."""
    from rayflow.training import deepspeed, models

    models.computed_in = deepspeed.computed_in = lambda dtype, device: dtype


def optimizer_steps(
    job: TrainJob, backend: Any, load: Path | None = None, save: Path | None = None
) -> list[Metrics]:
    """The metrics of a job's optimizer steps, from the start or a saved state; the first one's state is saved."""
    from rayflow.training.groups import GroupFile
    from rayflow.training.steps import Steps

    backend.setup(job)
    steps = Steps(job, GroupFile(job.groups_path), backend)
    done = backend.load_state(load) if load else 0
    metrics = []
    for number, plan in steps.plans(done):
        metrics.append(steps.run(number, plan))
        if save and number == 1:
            backend.save_state(save, number)
    return metrics
