"""The runner's interface, and the runner for one process. Both runners give the same artifacts."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Protocol

from rayflow.config import ComputeOptions, PoolOptions
from rayflow.core.devices import free_gpu_memory
from rayflow.pipeline.stage import ShardStage, ShardWorker

if TYPE_CHECKING:
    from rayflow.training.loop import TrainJob

Metrics = dict[str, float]
OnStep = Callable[[Metrics], None]


class Runner(Protocol):
    """Decides where stages run; never what they compute."""

    def start(self, stages: Sequence[ShardStage]) -> None:
        """Get ready before time is spent; refuse what the machines cannot hold.

        Raises:
            StageError: a resource that was asked for is not there.
        """

    def run_shards(
        self, workers: Sequence[ShardWorker], shards: Sequence[int], check: Callable[[], None]
    ) -> None:
        """Run the stages of one stream on these shards; returns when every shard is committed in each.

        Args:
            workers: one per stage, in order.
            shards: indices that at least one stage lacks.
            check: called now and then; raises to stop a stage whose rows fail too often.
        """

    def train(self, job: TrainJob, pool: PoolOptions, max_restarts: int, on_step: OnStep) -> list[Metrics]:
        """Train, or go on from the newest checkpoint, and leave the model in `job.model_dir`.

        Args:
            job: what is trained on what.
            pool: workers.
            max_restarts: after a lost worker.
            on_step: called with the metrics of each step, soon after it.

        Returns:
            The metrics of every step, from the first.
        """

    def stop(self) -> None:
        """Free the machines; safe to call twice."""


class LocalRunner:
    """One process, one stage after another, so that one model is in memory at a time."""

    def __init__(self, compute: ComputeOptions) -> None:
        self._compute = compute

    def start(self, stages: Sequence[ShardStage]) -> None:
        """Refuse GPUs that are not there."""
        if any(stage.pool.num_gpus for stage in stages):
            from rayflow.core.devices import require_gpus

            require_gpus(1)

    def run_shards(
        self, workers: Sequence[ShardWorker], shards: Sequence[int], check: Callable[[], None]
    ) -> None:
        """Stage by stage; within a stage, `in_flight` shards at once."""
        for worker in workers:
            done = worker.target.shards.committed()
            pending = [index for index in shards if index not in done]
            if pending:
                worker.stage.setup()
                try:
                    asyncio.run(run_concurrently(worker, pending, check))
                finally:
                    worker.stage.close()
                    free_gpu_memory()

    def train(self, job: TrainJob, pool: PoolOptions, max_restarts: int, on_step: OnStep) -> list[Metrics]:
        """A plain training loop in this process; an error ends it, running again resumes it."""
        from rayflow.training.checkpoints import FolderStore, refuse_others
        from rayflow.training.loop import train
        from rayflow.training.metrics import read_metrics
        from rayflow.training.plain import PlainBackend

        refuse_others(job.output_dir / "checkpoints", "checkpoint_*", "ray")
        store = FolderStore(job.output_dir / "checkpoints", job.options.keep_checkpoints)
        train(job, PlainBackend(), store, on_step)
        free_gpu_memory()
        return read_metrics(job.metrics_path)

    def stop(self) -> None:
        """Nothing to free."""


async def run_concurrently(worker: ShardWorker, shards: Sequence[int], check: Callable[[], None]) -> None:
    """All shards through one worker, at most `in_flight` at a time."""
    waiting = iter(shards)

    async def take() -> None:
        for index in waiting:  # one iterator for all: a shard is taken once
            await worker.run(index)
            check()

    tasks = [asyncio.create_task(take()) for _ in range(min(worker.stage.pool.in_flight, len(shards)))]
    try:
        await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()
