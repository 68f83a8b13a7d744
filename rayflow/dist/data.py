"""One stream of shard stages as one Ray Data pipeline: actor pools for models, tasks for the rest.

What flows through Ray are shard numbers; the columns are read from and committed to storage by the workers.
So the object store stays empty, a stage starts on a shard as soon as the one before it has committed it, and
a lost worker costs the shards that it held.
"""

from __future__ import annotations

import asyncio
import os
import re
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import ray

from rayflow import errors
from rayflow.config.blocks import WorkerRange
from rayflow.core.devices import hide_gpus
from rayflow.core.sealed import unseal
from rayflow.dist.background import belongs_behind, step_behind
from rayflow.dist.folder import work_in
from rayflow.dist.metrics import record, watched_queues
from rayflow.dist.watch import shards_done, stall_watch, stream_state
from rayflow.errors import EngineDeadError, RayflowError, StageError
from rayflow.pipeline.stage import ShardWorker

Batch = dict[str, np.ndarray]


class ShardActor:
    """Holds a stage's model, and takes several shards at once into it."""

    def __init__(self, worker: ShardWorker, logs: Path, folder: str) -> None:
        _log_to(logs / f"{worker.stage.name}-{os.getpid()}.log")
        _begin(worker, folder)
        self._worker = worker
        self._behind = belongs_behind(worker.stage.pool)
        worker.stage.setup()

    async def __call__(self, batch: Batch) -> Batch:
        """Commit the shards of `batch`, and hand their numbers on."""
        if self._behind:
            step_behind()
        try:
            for index in batch["shard"]:
                record(self._worker, await self._worker.run(int(index)))
        except EngineDeadError as error:
            # An actor whose engine died would go on failing every shard. Ending the process makes Ray start
            # a fresh one and give it the same shards again.
            print(f"{error} Ending this worker.", file=sys.stderr, flush=True)
            os._exit(1)
        return batch


def run_task(batch: Batch, worker: ShardWorker, folder: str) -> Batch:
    """Commit the shards of `batch` in a stage that holds nothing."""
    _begin(worker, folder)
    worker.stage.setup()
    for index in batch["shard"]:
        record(worker, asyncio.run(worker.run(int(index))))
    return batch


def _begin(worker: ShardWorker, folder: str) -> None:
    """What a process does before anything else; `folder` is the command's."""
    work_in(folder)
    unseal()
    if not worker.stage.pool.num_gpus:
        hide_gpus()


@dataclass(frozen=True)
class StreamOptions:
    """How a stream is run.

    Attributes:
        logs: folder for what the workers print.
        max_restarts: how often each actor is replaced after its process was lost, before the stream fails.
        stall_minutes: without a finished shard, after which the stream is ended; 0: never.
    """

    logs: Path
    max_restarts: int = 3
    stall_minutes: float = 0.0


def run_stream(
    workers: Sequence[ShardWorker], shards: Sequence[int], options: StreamOptions, check: Callable[[], None]
) -> None:
    """Run the stages of one stream on these shards.

    Args:
        workers: one per stage, in order.
        shards: indices that at least one stage lacks.
        options: logs and restarts.
        check: called after every shard; raises to stop.

    Raises:
        RayflowError: what a worker raised, or StageError for workers that Ray could not keep alive.
    """
    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = False
    context.print_on_execution_start = False
    data = ray.data.from_items([{"shard": index} for index in shards], override_num_blocks=len(shards))
    for worker in workers:
        data = _add(data, worker, options)
    try:
        with (
            watched_queues(workers),
            stall_watch(
                options.stall_minutes,
                lambda: shards_done(workers),
                lambda: stream_state(workers),
                options.logs,
            ),
        ):
            for _ in data.iter_batches(batch_size=1, prefetch_batches=0):
                check()
    except (ray.exceptions.RayError, RuntimeError) as error:
        raise explain(error, workers, options.logs) from error


def _add(data: ray.data.Dataset, worker: ShardWorker, options: StreamOptions) -> ray.data.Dataset:
    stage = worker.stage
    pool = stage.pool
    resources: dict[str, Any] = {"num_cpus": pool.num_cpus, "num_gpus": pool.num_gpus}
    if pool.resources:
        resources["resources"] = dict(pool.resources)
    if not stage.actor:
        given = {"worker": worker, "folder": os.getcwd()}
        return data.map_batches(run_task, batch_size=1, fn_kwargs=given, **resources)
    strategy = ray.data.ActorPoolStrategy(
        max_concurrent_calls_per_actor=pool.in_flight, **_size(pool.num_workers, pool.in_flight)
    )
    return data.map_batches(
        ShardActor,
        batch_size=1,
        compute=strategy,
        fn_constructor_kwargs={"worker": worker, "logs": options.logs, "folder": os.getcwd()},
        max_restarts=options.max_restarts,
        **resources,
    )


def _size(workers: int | WorkerRange, in_flight: int) -> dict[str, int]:
    """Size and queue of an actor pool."""
    if isinstance(workers, int):
        # One more than can run, so that the next shard is already there when one ends.
        return {"size": workers, "max_tasks_in_flight_per_actor": in_flight + 1}
    # Ray Data grows a pool once 1.75 times as many shards are at its actors as can run: let them queue there.
    return {
        "min_size": workers.min,
        "max_size": workers.max,
        "max_tasks_in_flight_per_actor": 2 * in_flight,
    }


def explain(error: BaseException, workers: Sequence[ShardWorker], logs: Path) -> RayflowError:
    """The error that a person can act on, out of Ray's wrappings around it.

    Causes do not survive the way from a worker to the driver; its printed traceback does.
    """
    ours = re.findall(
        r"^rayflow\.errors\.(\w+): (.*?)(?=\n\n|\n\x1b|\Z)", str(error), re.MULTILINE | re.DOTALL
    )
    if ours:
        name, text = ours[-1]
        return getattr(errors, name)(text.strip())
    names = ", ".join(worker.stage.name for worker in workers)
    said = [line for line in str(error).splitlines() if re.match(r"[\w.]*(Error|Exception)\b.*: ", line)]
    last = (said or str(error).strip().splitlines() or [repr(error)])[-1][:300]
    return StageError(
        f"A worker of {names} failed: {last}\nIts log is in {logs}. Finished shards are kept; run again to go on."
    )


def _log_to(path: Path) -> None:
    """Send what this process, and every process it starts, prints to a file of the run."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "ab", buffering=0) as file:
        sys.stdout.flush()
        sys.stderr.flush()
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)


def crowded(workers: Sequence[ShardWorker], num_cpus: float, num_nodes: int) -> str:
    """What to say of a stream whose actor pools hold so many of `num_cpus` that the rest may wait; "" otherwise.

    Pools keep what they hold. Its tasks need room beside them; and with several machines a spare CPU, or what
    one of them takes with it when it is lost may fit nowhere else, and be waited for without an end.
    """
    pools = {w.stage.name: w.stage.pool for w in workers if w.stage.actor}
    tasks = max((w.stage.pool.num_cpus for w in workers if not w.stage.actor), default=0.0)
    taken = sum(pool.fewest_workers * pool.num_cpus for pool in pools.values())
    spare = max(tasks, 1.0 if num_nodes > 1 else 0.0)
    if taken + spare <= num_cpus:
        return ""
    asked = ", ".join(f"{name} {pool.fewest_workers} x {pool.num_cpus:g}" for name, pool in pools.items())
    return (
        f"the pools of this step ask for {taken:g} of the cluster's {num_cpus:g} CPUs ({asked}). Keep {spare:g} free, "
        "for tasks and for replacements of lost workers: lower num_workers or num_cpus in the compute block."
    )
