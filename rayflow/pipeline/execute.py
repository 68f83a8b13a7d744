"""Runs a plan: skips what is committed, resumes what is begun, refuses what another configuration made."""

from __future__ import annotations

import math
import time
from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path

from rich.console import Console

from rayflow import __version__
from rayflow.config import JobConfig
from rayflow.core.files import read_json, write_json, writing
from rayflow.core.signals import stoppable
from rayflow.errors import ArtifactError
from rayflow.pipeline.artifact import Artifact
from rayflow.pipeline.lock import folder_lock
from rayflow.pipeline.manifest import Manifest
from rayflow.pipeline.pace import clock
from rayflow.pipeline.plan import Plan, check_before
from rayflow.pipeline.preflight import preflight
from rayflow.pipeline.progress import ProgressMonitor, StageCount
from rayflow.pipeline.runner import OnStep, Runner
from rayflow.pipeline.stage import ShardStage, Stage, StageContext, WholeStage
from rayflow.pipeline.stopwatch import stopwatch


class Pipeline:
    """One run's execution.

    Args:
        plan: what to do.
        runner: where. It is started only if there is something left to compute.
        console: for the person who waits.
        on_step: told of the metrics of every optimizer step.
    """

    def __init__(
        self,
        plan: Plan,
        runner: Runner,
        console: Console,
        on_step: OnStep = lambda metrics: None,
    ) -> None:
        self._on_step = on_step
        self._plan = plan
        self._runner = runner
        self._console = console

    def run(self, force: Sequence[str] = (), only: Collection[str] | None = None) -> None:
        """Bring every stage to its committed state.

        Args:
            force: stages to redo, with everything that depends on them.
            only: leave every stage that is not among these as it is; None runs all.

        Raises:
            RayflowError: see the stages; what was committed stays, and running again goes on from there.
            Terminated: SIGTERM; as after Ctrl-C, shards in work are committed or leave no trace.
        """
        plan = self._plan
        redo = plan.dependents(force)
        preflight(plan)
        with stoppable(), open_run(plan.config):
            self._tell_of_others()
            make_way(plan, redo)
            # Only now: a refused configuration must not replace the one that the stored stages were made from.
            _store_config(plan.config)
            try:
                self._run_steps(plan.stages if only is None else only)
            finally:
                self._runner.stop()

    def _tell_of_others(self) -> None:
        """Say which stages are made anew because the plan has others before them than the one that is stored."""
        for name, artifact in self._plan.artifacts.items():
            others = [
                path for path in artifact.folder.parent.glob(f"[0-9][0-9]-{name}") if path != artifact.folder
            ]
            if others and not artifact.folder.exists():
                left = ", ".join(path.name for path in sorted(others))
                told = f"{artifact.folder.name} is new, {left} stays as it was."
                self._console.print(f"[yellow]The stages are others than before:[/] {told}", highlight=False)

    def _run_steps(self, wanted: Collection[str]) -> None:
        started = False
        steps = [[stage for stage in step if stage.name in wanted] for step in self._plan.steps]
        for step in steps:
            todo = []
            for stage in step:
                artifact = self._plan.artifacts[stage.name]
                if artifact.committed:
                    self._say("[dim]✓[/]", artifact.manifest(), "[dim]stored[/]")
                else:
                    todo.append(stage)
            self._check_inputs(todo)
            if not started and any(is_heavy(stage) for stage in todo):
                left = (s for each in steps for s in each if not self._plan.artifacts[s.name].committed)
                self._runner.start([stage for stage in left if is_heavy(stage)])
                started = True
            if todo and is_sharded(todo[0]):
                self._run_stream(todo)
            elif todo:
                self._run_whole(todo[0])

    def _check_inputs(self, todo: Sequence[Stage]) -> None:
        """Refuse to go on from a stage that is not finished, where only some stages are run, or that came to nothing.

        Raises:
            ArtifactError, StageError: which one.
        """
        if todo:
            check_before(self._plan, todo[0])
        made = {stage.name for stage in todo}
        for name in sorted({name for stage in todo for name in stage.inputs} - made):
            self._plan.artifacts[name].manifest()

    def _run_stream(self, stages: Sequence[ShardStage]) -> None:
        """The stages of one stream that are not finished, over every shard that any of them lacks."""
        plan = self._plan
        artifacts = [plan.artifacts[stage.name] for stage in stages]
        first = next(a for name, a in plan.artifacts.items() if name == stages[0].inputs[0])
        for stage, artifact in zip(stages, artifacts, strict=True):
            artifact.begin(plan.identities[stage.name], first.num_shards)
        earlier = _earlier(artifacts)
        pending = sorted({index for artifact in artifacts for index in artifact.pending_shards()})
        rows = first.manifest().num_rows
        per_shard = rows / max(1, first.num_shards or 1)
        counts = [
            StageCount(artifact, rows, per_shard * stage.pool.in_flight * stage.pool.fewest_workers)
            for stage, artifact in zip(stages, artifacts, strict=True)
        ]
        monitor = ProgressMonitor(self._console, counts)
        limit = plan.config.max_failed_fraction
        start = before = time.time()
        with monitor.running():
            workers = [plan.worker(stage) for stage in stages]
            if pending:  # none is left where only the stages' own commits are
                self._runner.run_shards(workers, pending, check=lambda: monitor.check(limit))
        monitor.check(limit)
        for artifact, spent in zip(artifacts, earlier, strict=True):
            # Stages of a stream overlap: each is charged what it added, so that the times add up to the run's.
            finish = max((artifact.shards.marker(index).finished for index in pending), default=before)
            self._say("[green]✓[/]", artifact.commit(start, spent + max(0.0, finish - before)))
            before = max(before, finish)

    def _run_whole(self, stage: WholeStage) -> None:
        plan, artifact = self._plan, self._plan.artifacts[stage.name]
        identity = plan.identities[stage.name]
        context = StageContext(artifact, identity, plan.artifacts, self._runner, self._console, self._on_step)
        start = time.time()
        with stopwatch(artifact.folder / "seconds.json") as spent:
            extra = stage.run(context)
            count = StageCount.of_all(artifact)
            count.check(plan.config.max_failed_fraction)
        self._say("[green]✓[/]", artifact.commit(start, spent(), extra))

    def _say(self, mark: str, manifest: Manifest, note: str = "") -> None:
        rows = f"{manifest.num_rows:,} rows" if manifest.num_rows else ""
        failed = f"[yellow]{manifest.num_failed} failed or dropped[/]" if manifest.num_failed else ""
        took = note or clock(manifest.seconds)
        parts = ", ".join(part for part in (rows, failed, took) if part)
        self._console.print(f"{mark} {manifest.name:<20} {parts}", highlight=False)


def make_way(plan: Plan, redo: Sequence[str]) -> None:
    """Set aside the stages that are to be redone, in the plan's order, of a run that is open (see `open_run`).

    Raises:
        ArtifactError: another configuration made one of the other stages; nothing was set aside.
    """
    for name, artifact in plan.artifacts.items():
        if name not in redo:
            artifact.check(plan.identities[name])
    for name in reversed(redo):  # killed in between, nothing is left that was made of what is gone
        plan.artifacts[name].set_aside()


def _earlier(artifacts: Sequence[Artifact]) -> list[float]:
    """Seconds that calls before this one spent on each stage of a stream, beyond the stages before it.

    What their committed shards tell: times at which none of these was worked on, such as an engine's start, or a
    night between two calls, are not in it.
    """
    spans: list[tuple[float, float]] = []
    totals = [0.0]
    for artifact in artifacts:
        done = (artifact.shards.marker(index) for index in artifact.shards.committed())
        spans += [(each.finished - each.seconds, each.finished) for each in done]
        totals.append(covered(spans))
    return [after - before for before, after in pairwise(totals)]


def covered(spans: Iterable[tuple[float, float]]) -> float:
    """Length of the union of (begin, end) intervals."""
    total, until = 0.0, -math.inf
    for begin, end in sorted(spans):
        total += max(0.0, end - max(begin, until))
        until = max(until, end)
    return total


def _is_just_begun(root: Path) -> bool:
    """Whether a folder holds no more than what is there before `run.json`, by which a run is known."""
    return all(path.name == ".lock" or path.name.startswith(".run.json.") for path in root.iterdir())


def _store_config(config: JobConfig) -> None:
    """Beside the stages that it made, whole or as it was."""
    path = config.root / "config.yaml"
    partial = path.with_name(".config.yaml.part")
    with writing(path):
        partial.write_text(config.to_yaml(), encoding="utf-8")
        partial.replace(path)


def is_sharded(stage: Stage) -> bool:
    """Whether a stage works shard by shard."""
    return hasattr(stage, "process")


def is_heavy(stage: Stage) -> bool:
    """Whether a stage needs the runner's machines."""
    return hasattr(stage, "pool")


@contextmanager
def open_run(config: JobConfig) -> Iterator[Path]:
    """The run's folder, locked for this process.

    Raises:
        ArtifactError: the folder holds something else, another version's run, or another process works in it.
    """
    root = config.root
    marker = root / "run.json"
    if root.exists() and not marker.exists() and not _is_just_begun(root):
        raise ArtifactError(
            f"{root} exists and is not a run of rayflow. Give the run another name (--set name=...) or "
            "another place (--set runs_dir=...)."
        )
    with writing(root):
        root.mkdir(parents=True, exist_ok=True)
    with folder_lock(root):
        if not marker.exists():
            write_json(marker, {"name": config.name, "created": time.time(), "version": __version__})
        read_json(marker)
        yield root
