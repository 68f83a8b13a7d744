"""The runner for Ray: the same stages and artifacts as the local runner, on the machines of a cluster."""

from __future__ import annotations

import contextlib
import logging
import os
import re
import socket
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

# Ray reads these when it is first imported or started; a user's own settings win.
os.environ.setdefault("RAY_DATA_DISABLE_PROGRESS_BARS", "1")
os.environ.setdefault("RAY_TRAIN_V2_ENABLED", "1")
os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")

import ray  # noqa: E402

from rayflow.config import ComputeOptions, PoolOptions  # noqa: E402
from rayflow.core.signals import raise_when_terminated  # noqa: E402
from rayflow.dist.access import keep_token_private, make_private_token, open_to_others  # noqa: E402
from rayflow.dist.data import StreamOptions, crowded, run_stream  # noqa: E402
from rayflow.dist.metrics import record_step  # noqa: E402
from rayflow.dist.watch import stall_watch  # noqa: E402
from rayflow.errors import ConfigError, StageError  # noqa: E402
from rayflow.pipeline.folders import run_name  # noqa: E402
from rayflow.pipeline.placement import OTHER_MACHINES, check_groups, machine  # noqa: E402
from rayflow.pipeline.runner import Metrics, OnStep  # noqa: E402
from rayflow.pipeline.stage import ShardStage, ShardWorker  # noqa: E402

if TYPE_CHECKING:
    from rayflow.training.loop import TrainJob


ANSWER_S = 30.0
"""How long a cluster that is named by its address may take to answer."""


class RayRunner:
    """Starts Ray, or connects to a cluster; leaves a cluster that was already there running.

    Args:
        compute: address and pools.
        logs: folder of the run for everything that workers print.
    """

    def __init__(self, compute: ComputeOptions, logs: Path) -> None:
        self._compute = compute
        self._logs = logs
        self._started = False
        self._quiet = contextlib.ExitStack()

    def start(self, stages: Sequence[ShardStage]) -> None:
        """Connect, and refuse workers that this machine cannot hold; of a cluster, which may grow, it is only said.

        Raises:
            StageError: no cluster at the address, or one that this process cannot join.
            ConfigError: too few CPUs or GPUs for the workers of a stage, which is found no later than here.
        """
        self._quiet.enter_context(_stderr_to(self._logs / "driver.log"))
        if not ray.is_initialized():
            if not self._elsewhere:
                make_private_token()
            _wait_for(self._address)
            try:
                context = ray.init(
                    # "local", for with None Ray would join a cluster that someone else runs on this machine.
                    address=self._address,
                    log_to_driver=False,
                    logging_level=logging.ERROR,
                    **({} if self._elsewhere else {"include_dashboard": False}),
                )
            except ConnectionError as error:
                raise StageError(f"No Ray cluster answers at '{self._address}': {error}") from error
            except (RuntimeError, ray.exceptions.RayError) as error:
                raise StageError(f"{self._not_joined} {error}") from error
            self._started = True
            raise_when_terminated()  # Ray has set a handler of its own
            warn(open_to_others(context.dashboard_url))
        keep_token_private()
        self._check_resources(stages)

    @property
    def _address(self) -> str:
        return self._compute.address or os.environ.get("RAY_ADDRESS") or "local"

    @property
    def _not_joined(self) -> str:
        if not self._elsewhere:
            return "Ray did not start on this machine:"
        return (
            f"The Ray cluster at '{self._address}' cannot be joined: it must have this environment's versions of Ray "
            "and Python, and a cluster with a token asks for it (RAY_AUTH_TOKEN, or ~/.ray/auth_token). From another "
            "environment use `rayflow submit`. Ray says:"
        )

    @property
    def _elsewhere(self) -> bool:
        return self._address != "local"

    def _check_resources(self, stages: Sequence[ShardStage]) -> None:
        pools = [stage.pool for stage in stages]
        if not self._elsewhere:
            check_groups(stages, (machine("this machine", ray.cluster_resources(), pools),), OTHER_MACHINES)
        elif not self._compute.nodes:  # on those it was placed
            alive = [node["Resources"] for node in ray.nodes() if node["Alive"]]
            machines = [machine(f"node {i}", have, pools) for i, have in enumerate(alive, start=1)]
            try:
                check_groups(stages, machines, "name the machines it grows to in compute.nodes")
            except ConfigError as error:  # an autoscaling cluster may hold no such machines yet
                warn(f"as the cluster is now, it would wait without an end. {error}")
        warn(_idle_gpus(stages, self._have("GPU")))

    def _have(self, name: str) -> float:
        """CPUs or GPUs of the cluster: now, or of `compute.nodes` where it grows to them."""
        planned = sum(node.count * getattr(node, f"num_{name.lower()}s") for node in self._compute.nodes)
        return max(ray.cluster_resources().get(name, 0.0), planned)

    @property
    def _num_nodes(self) -> int:
        alive = sum(node["Alive"] for node in ray.nodes())
        return max(alive, sum(node.count for node in self._compute.nodes))

    def run_shards(
        self, workers: Sequence[ShardWorker], shards: Sequence[int], check: Callable[[], None]
    ) -> None:
        """One Ray Data pipeline for all stages of the stream."""
        warn(crowded(workers, self._have("CPU"), self._num_nodes))
        compute = self._compute
        run_stream(
            workers, shards, StreamOptions(self._logs, compute.max_restarts, compute.stall_minutes), check
        )

    def train(self, job: TrainJob, pool: PoolOptions, max_restarts: int, on_step: OnStep) -> list[Metrics]:
        """Ray Train with DeepSpeed over `pool.num_workers` workers."""
        from rayflow.dist.train import TrainCompute, train_with_ray
        from rayflow.training.checkpoints import refuse_others

        refuse_others(job.output_dir / "checkpoints", "step-*", "local")

        compute = TrainCompute(
            num_workers=pool.num_workers,
            resources_per_worker={
                "CPU": pool.num_cpus,
                **({"GPU": pool.num_gpus} if pool.num_gpus else {}),
                **pool.resources,
            },
            use_gpu=pool.num_gpus > 0,
            max_failures=max_restarts,
        )

        def on_metrics(metrics: Metrics) -> None:
            record_step(run_name(Path(job.output_dir).parent), metrics)
            on_step(metrics)

        heading = f"train\n  {pool.num_workers} workers of {pool.num_cpus:g} CPU and {pool.num_gpus:g} GPU"
        with stall_watch(
            self._compute.stall_minutes, lambda: _training_progress(job), lambda: heading, self._logs
        ):
            return train_with_ray(job, compute, "checkpoints", job.output_dir, on_metrics).metrics_history

    def stop(self) -> None:
        """Shut down a Ray that this runner started."""
        try:
            if self._started:
                ray.shutdown()
                self._started = False
        finally:
            self._quiet.close()


def _wait_for(address: str) -> None:
    """Knock before Ray does, which would try for minutes: at "host:port", for a head that is just starting.

    Raises:
        StageError: nothing listens there.
    """
    place = re.fullmatch(r"(?:ray://)?\[?([^/\[\]]+)\]?:(\d+)", address)
    if place is None:
        return
    until = time.monotonic() + ANSWER_S
    while True:
        try:
            socket.create_connection((place[1], int(place[2])), timeout=ANSWER_S).close()
            return
        except OSError as error:
            if time.monotonic() > until:
                raise StageError(f"No Ray cluster answers at '{address}': {error}") from error
        time.sleep(1)


def warn(text: str) -> None:
    """Say something on standard output, for standard error is the log's; nothing where there is nothing."""
    if text:
        print(f"Warning: {text}", flush=True)


def _idle_gpus(stages: Sequence[ShardStage], gpus: float) -> str:
    """What to say of stages that hold a model and ask for no GPU where Ray has some; "" if there are none."""
    slow = [stage.name for stage in stages if getattr(stage, "models", ()) and not stage.pool.num_gpus]
    if not gpus or not slow:
        return ""
    return (
        f"Ray has {gpus:g} GPUs, and these stages ask for none and compute on the processor: {', '.join(slow)}. Give "
        "their pools num_gpus in the compute block."
    )


def _training_progress(job: TrainJob) -> tuple[int, ...]:
    """What changes as long as a training goes on: steps, or the files of a checkpoint for another number of workers."""
    return (*_size(job.metrics_path), sum(1 for _ in job.converted_dir.rglob("*")))


def _size(path: Path) -> tuple[int, int]:
    """Size and time of a file's last change; zeros where it is not there yet."""
    try:
        found = path.stat()
    except FileNotFoundError:
        return 0, 0
    return found.st_size, found.st_mtime_ns


@contextlib.contextmanager
def _stderr_to(path: Path) -> Iterator[None]:
    """Send this process's standard error to a file of the run: Ray's libraries write there as they please.

    What a person should see goes to standard output, and errors are raised.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    sys.stderr.flush()
    saved = os.dup(2)
    with open(path, "ab", buffering=0) as file:
        os.dup2(file.fileno(), 2)
    try:
        yield
    finally:
        sys.stderr.flush()
        os.dup2(saved, 2)
        os.close(saved)
