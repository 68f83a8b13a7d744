"""The training loop. Row in: training groups. Out: a model folder and one metrics line per optimizer step."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from rayflow.training.backend import Backend
from rayflow.training.checkpoints import CheckpointStore
from rayflow.training.choice import Chooser, Judge
from rayflow.training.groups import GroupFile
from rayflow.training.metrics import Metrics, MetricsLog
from rayflow.training.options import Objective, TrainOptions
from rayflow.training.steps import Steps


@dataclass(frozen=True)
class TrainJob:
    """What is trained on what.

    Attributes:
        options: the stage's settings.
        model_path: local folder or hub id of the model that training starts from.
        groups_path: file of `groups.write_groups`.
        output_dir: gets `metrics.jsonl` and `model/`; on a cluster, a folder that all machines see.
        seed: of the shuffle, and of a reward model's new head.
        judge: compares a model with the baseline, where `options.choose` asks for it.
        objective: what the model puts out for a response.
        orders: in how many orders the file holds each item, one after the other and alike in their loss units; an
            epoch trains on one of them, drawn anew by (seed, epoch).
    """

    options: TrainOptions
    model_path: str
    groups_path: Path
    output_dir: Path
    seed: int
    judge: Judge | None = None
    objective: Objective = "policy"
    orders: int = 1

    @property
    def metrics_path(self) -> Path:
        """One JSON line per optimizer step."""
        return Path(self.output_dir) / "metrics.jsonl"

    @property
    def model_dir(self) -> Path:
        """The trained model folder."""
        return Path(self.output_dir) / "model"

    @property
    def converted_dir(self) -> Path:
        """Where a checkpoint is converted for another number of workers; all machines see it."""
        return Path(self.output_dir) / "universal"


def train(
    job: TrainJob, backend: Backend, store: CheckpointStore, on_step: Callable[[Metrics], None] | None = None
) -> None:
    """Train from the newest checkpoint of `store`, or from the start, to the end; save the model.

    Args:
        job: what is trained on what.
        backend: not set up yet.
        store: where checkpoints are kept and found.
        on_step: called on rank 0 with each step's metrics. `step` is 1-based; see `metrics.averages`.

    Raises:
        DataError: there is nothing to train on, or a group exceeds the model's context.
        ModelError: the model cannot be loaded.
        StageError: the loss is not finite; it names the step and the prompts.
    """
    groups = GroupFile(job.groups_path)
    backend.setup(job)
    steps = Steps(job, groups, backend)
    with store.newest() as folder:
        done = backend.load_state(folder) if folder is not None else 0
    log = MetricsLog(job.metrics_path, done) if backend.rank == 0 else None
    chooser = Chooser(job, backend, done) if job.options.choose else None
    every = job.options.checkpoint_every_steps
    for number, plan in steps.plans(first=done):
        if chooser is not None and chooser.finished:
            break
        metrics = steps.run(number, plan)
        if chooser is not None:
            metrics |= chooser.after(number, steps.total)
        if log is not None:
            log.append(metrics)
            if on_step is not None:
                on_step(metrics)
        if every and number % every == 0 and number < steps.total:
            store.save(number, lambda path, number=number: backend.save_state(path, number))
    if chooser is not None:
        chooser.keep_best()
    else:
        backend.save_model(job.model_dir, job.model_path)
