"""Training on a Ray cluster: Ray Train starts and restarts the workers, DeepSpeed splits the model's state.

Every worker runs the same `training.loop`. A lost worker restarts the group from the last checkpoint with
the loss history that an undisturbed run would have had; so does running the driver again with the same name
and storage path, also with another number of workers.
"""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rayflow.core.beats import every
from rayflow.core.devices import NO_GPUS
from rayflow.core.sealed import unseal
from rayflow.dist.checkpoints import RayStore
from rayflow.dist.folder import work_in
from rayflow.errors import RayflowError, StageError
from rayflow.training.metrics import Metrics, MetricsTail, read_metrics

if TYPE_CHECKING:
    from rayflow.training.loop import TrainJob

_TIMEOUT_S = 1800
_POLL_S = 0.5


@dataclass(frozen=True)
class TrainCompute:
    """Where training runs: never part of the result's identity.

    Attributes:
        num_workers: processes; each holds a copy of the weights under ZeRO-1 and 2.
        resources_per_worker: Ray resources, for instance {"CPU": 4, "GPU": 1}. The workers also need what
            Ray Train's controller takes, which is nothing by default.
        use_gpu: one GPU per worker and NCCL; otherwise gloo.
        max_failures: restarts from the last checkpoint before the stage gives up.
        timeout_s: how long a collective waits for a worker that does not come. DeepSpeed's own process groups are
            clones with torch's default.
    """

    num_workers: int = 1
    resources_per_worker: dict[str, float] = field(default_factory=lambda: {"CPU": 1})
    use_gpu: bool = False
    max_failures: int = 3
    timeout_s: int = _TIMEOUT_S


@dataclass(frozen=True)
class TrainResult:
    """What came out.

    Attributes:
        metrics_history: one entry per optimizer step, from the first, restarts included.
        model_dir: the trained model folder.
        num_restarts: how often the workers were started again during this call.
    """

    metrics_history: list[Metrics]
    model_dir: Path
    num_restarts: int


def train_with_ray(
    job: TrainJob,
    compute: TrainCompute,
    name: str,
    storage_path: str | Path,
    on_progress: Callable[[Metrics], None] | None = None,
) -> TrainResult:
    """Train on the cluster that the caller has connected to (`ray.init`).

    Args:
        job: what is trained on what; its paths are seen by all machines.
        compute: workers and resources.
        name: of the run in the storage; the same name and path continue an unfinished run.
        storage_path: folder that all machines see, for the checkpoints.
        on_progress: called in a thread of the driver with each step's metrics, soon after the step.

    Raises:
        StageError: the workers failed more often than `max_failures`, or all tries met the same error.
    """
    starts = _starts_path(job)
    before = _count_lines(starts)
    with _quiet_driver(_logs(job)), _tail(job.metrics_path, on_progress):
        _fit(job, compute, name, str(storage_path))
    return TrainResult(
        metrics_history=read_metrics(job.metrics_path),
        model_dir=job.model_dir,
        num_restarts=_count_lines(starts) - before - 1,
    )


def _fit(job: TrainJob, compute: TrainCompute, name: str, storage_path: str) -> None:
    import ray.train
    from ray.train.torch import TorchConfig, TorchTrainer

    trainer = TorchTrainer(
        _worker,
        train_loop_config={"job": job, "checkpoints": Path(storage_path, name), "folder": os.getcwd()},
        torch_config=TorchConfig(backend="nccl" if compute.use_gpu else "gloo", timeout_s=compute.timeout_s),
        scaling_config=ray.train.ScalingConfig(
            num_workers=compute.num_workers,
            use_gpu=compute.use_gpu,
            resources_per_worker=compute.resources_per_worker,
        ),
        run_config=ray.train.RunConfig(
            name=name,
            storage_path=storage_path,
            failure_config=ray.train.FailureConfig(max_failures=compute.max_failures),
            checkpoint_config=ray.train.CheckpointConfig(num_to_keep=job.options.keep_checkpoints),
            # Ray Train looks for GPUs before our code runs, and CUDA then keeps what it has seen.
            worker_runtime_env={} if compute.use_gpu else {"env_vars": NO_GPUS},
        ),
    )
    RayStore(Path(storage_path, name)).mend_list()
    before = signal.getsignal(signal.SIGINT)
    try:
        trainer.fit()
    except ray.train.TrainingFailedError as error:
        raise _explain(error, job) from error
    except SystemExit as error:  # Ray Train answers Ctrl-C with an end of the process that looks like success
        raise KeyboardInterrupt from error
    finally:
        if threading.current_thread() is threading.main_thread():
            # Ray Train leaves its own, which only this training understands.
            signal.signal(signal.SIGINT, before)


def _worker(config: dict[str, Any]) -> None:
    """What each worker runs; Ray Train has made the process group."""
    import ray.train

    from rayflow.training.deepspeed import DeepSpeedBackend
    from rayflow.training.deepspeed_library import logs_to
    from rayflow.training.loop import train

    work_in(config["folder"])
    unseal()  # a reward that chooses the checkpoint may need a token
    job: TrainJob = config["job"]
    rank = ray.train.get_context().get_world_rank()
    if rank == 0:
        _logs(job).mkdir(parents=True, exist_ok=True)
        with _starts_path(job).open("a") as file:
            file.write("start\n")
    with logs_to(_logs(job) / f"worker-{rank}.log"):
        train(job, DeepSpeedBackend(), RayStore(config["checkpoints"]))


def _explain(error: Exception, job: TrainJob) -> RayflowError:
    """Our own error if a worker raised one, else one that says where to look."""
    failures: dict[int, Exception] = getattr(error, "worker_failures", {})
    for failure in failures.values():
        cause = getattr(failure, "_base_exc", failure)  # Ray Train carries the worker's exception inside
        if isinstance(cause, RayflowError):
            return cause
    last = str(error).strip().splitlines()[-1]
    return StageError(f"Training failed and the restarts are used up: {last} (logs: {_logs(job)}).")


def _logs(job: TrainJob) -> Path:
    return Path(job.output_dir) / "logs"


def _starts_path(job: TrainJob) -> Path:
    return _logs(job) / "starts.txt"


def _count_lines(path: Path) -> int:
    return len(path.read_text().splitlines()) if path.exists() else 0


@contextlib.contextmanager
def _quiet_driver(folder: Path) -> Iterator[None]:
    """Ray Train's own messages on the driver go to a file: the terminal belongs to the progress bar."""
    folder.mkdir(parents=True, exist_ok=True)
    handler = logging.FileHandler(folder / "driver.log")
    logger = logging.getLogger("ray.train")
    handlers, propagate = logger.handlers, logger.propagate
    logger.handlers, logger.propagate = [handler], False
    try:
        yield
    finally:
        logger.handlers, logger.propagate = handlers, propagate
        handler.close()


@contextlib.contextmanager
def _tail(path: Path, on_progress: Callable[[Metrics], None] | None) -> Iterator[None]:
    """Report the steps that appear in `path`, each once, also across restarts that repeat some."""
    if on_progress is None:
        yield
        return
    tail, seen = MetricsTail(path), 0

    def report() -> None:
        nonlocal seen
        for metrics in tail.read():
            if metrics["step"] > seen:
                seen = int(metrics["step"])
                on_progress(metrics)

    with every(_POLL_S, report, "training", at_end=True):
        yield
