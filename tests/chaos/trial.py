"""One trial: a fault and a seed, and nothing else, decide what is killed and when.

The moment is drawn in the run's own progress, not in seconds: so many shards (or training steps) are committed,
and a part of a shard's time has passed. So the kill falls into the work on a fast machine and on a slow one.
"""

from __future__ import annotations

import contextlib
import json
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import psutil
import yaml

from tests.chaos.job import LATENCY_S, NUM_PROMPTS, ROOT, Job

WAIT_S = 400.0


@dataclass
class Trial:
    """A run, disturbed once.

    Attributes:
        fault: a key of FAULTS.
        seed: decides the moment and, of several victims, which.
        job: the run.
        told: what happened, for the reader of a failure.
    """

    fault: str
    seed: int
    job: Job
    told: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.draw = random.Random(f"{self.fault}-{self.seed}")

    def run(self) -> None:
        """Start the run, do the harm, and bring the run to its end, started again where it was the victim.

        Raises:
            AssertionError: the run did not end well; it says what was done and what the run printed.
        """
        try:
            FAULTS[self.fault](self)
        except AssertionError as error:
            raise AssertionError(f"{error}\n{self.story()}") from error
        finally:
            self.job.end()

    def story(self) -> str:
        """Everything needed to look into a failed trial, and to repeat it."""
        printed = self.job.output.read_text()[-3000:] if self.job.output.exists() else ""
        logs = sorted((self.job.config.root / "logs").glob("*"))
        return "\n".join(
            [
                f"Trial: fault '{self.fault}', seed {self.seed}",
                f"Again: python -m pytest -m '' tests/chaos -k '{self.fault}-{self.seed}'",
                *(f"  {line}" for line in self.told),
                f"Run: {self.job.config.root}; logs: {', '.join(path.name for path in logs)}",
                f"It printed:\n{printed}",
            ]
        )

    def wait_for(self, what: str, reached: Callable[[], bool], process: subprocess.Popen[str]) -> None:
        """Until something is so; fails when the run ends before that, or nothing happens."""
        until = time.monotonic() + WAIT_S
        while not reached():
            assert process.poll() is None, f"the run ended with {process.returncode} before {what}"
            assert time.monotonic() < until, f"no {what} in {WAIT_S:g} seconds"
            time.sleep(0.01)
        self.told.append(f"reached: {what}")

    def finish(self, process: subprocess.Popen[str]) -> None:
        """Wait for an orderly end."""
        try:
            code = process.wait(WAIT_S)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"the run did not end in {WAIT_S:g} seconds") from None
        assert code == 0, f"the run ended with {code}"

    def moment(self, stage: str, process: subprocess.Popen[str]) -> None:
        """A drawn moment in a stage: shards committed, and then a part of the time that one takes."""
        shards, delay = self.draw.randrange(1, NUM_PROMPTS - 4), self.draw.uniform(0, LATENCY_S)
        self.wait_for(f"{shards} shards of {stage}", lambda: self.job.done(stage) >= shards, process)
        time.sleep(delay)

    def kill(self, process: psutil.Process, what: str) -> None:
        """SIGKILL."""
        self.told.append(f"killed {what}, process {process.pid}: {' '.join(process.cmdline())[:80]}")
        process.send_signal(signal.SIGKILL)

    def workers(self, stage: str) -> list[psutil.Process]:
        """Living actors of a stage, from the names of their logs."""
        found = []
        for path in sorted((self.job.config.root / "logs").glob(f"{stage}-*.log")):
            with contextlib.suppress(psutil.Error):
                found.append(psutil.Process(int(path.stem.rpartition("-")[2])))
        return found


def kill_actor(trial: Trial, stage: str) -> None:
    """Of a stage's pool, whose place a new one must take."""
    process = trial.job.start()
    trial.moment(stage, process)
    trial.kill(trial.draw.choice(trial.workers(stage)), f"an actor of {stage}")
    left = NUM_PROMPTS - trial.job.done(stage)
    assert left > 0, "the kill came too late"
    trial.finish(process)
    started = len(list((trial.job.config.root / "logs").glob(f"{stage}-*.log")))
    pool = getattr(trial.job.config.compute, stage).num_workers
    assert started > pool, (
        f"{started} actors of {stage} were started: nobody took the place of the killed one"
    )


def kill_engine(trial: Trial, name: str = "tests.chaos.engine") -> None:
    """The process behind a sampler, which must notice and be replaced."""
    process = trial.job.start()
    trial.moment("sample", process)
    engines = [
        child
        for actor in trial.workers("sample")
        for child in actor.children(recursive=True)
        if name in " ".join(child.cmdline())
    ]
    trial.kill(trial.draw.choice(engines), "an engine")
    assert trial.job.done("sample") < NUM_PROMPTS, "the kill came too late"
    trial.finish(process)
    logs = sorted((trial.job.config.root / "logs").glob("sample-*.log"))
    assert any("Ending this worker" in path.read_text() for path in logs), "no actor has noticed"
    assert len(logs) > trial.job.config.compute.sample.num_workers, "no new actor was started"


def kill_driver(trial: Trial, stage: str = "") -> None:
    """The process that a person started, who starts it again."""
    process = trial.job.start()
    trial.moment(stage or trial.draw.choice(["sample", "score", "pair"]), process)
    trial.kill(psutil.Process(process.pid), "the driver")
    assert process.wait() == -signal.SIGKILL
    trial.finish(trial.job.start())


@contextlib.contextmanager
def two_machines(trial: Trial) -> Iterator[psutil.Process]:
    """A cluster that the trial's run uses; gives the second machine's raylet."""
    with subprocess.Popen(
        [sys.executable, "-m", "tests.chaos.cluster"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env=trial.job.variables,
        cwd=ROOT,
        text=True,
    ) as cluster:
        try:
            made = json.loads(cluster.stdout.readline())
            trial.job.environment |= {"RAY_ADDRESS": made["address"]}
            yield psutil.Process(made["raylets"][1])
        finally:
            cluster.stdin.close()
            del trial.job.environment["RAY_ADDRESS"]


def kill_raylet(trial: Trial) -> None:
    """Of the second of two machines, with all that runs on it."""
    with two_machines(trial) as raylet:
        process = trial.job.start()
        trial.moment(trial.draw.choice(["sample", "score"]), process)
        lose(trial, raylet)
        trial.finish(process)


def lose(trial: Trial, raylet: psutil.Process) -> None:
    """Kill a machine's raylet, on which something was at work."""
    lost = [p for s in ("sample", "score") for p in trial.workers(s) if raylet in p.parents()]
    trial.told.append(f"actors on the second machine: {len(lost)}")
    trial.kill(raylet, "the second machine's raylet")
    assert lost, "nothing ran on the second machine"
    assert trial.job.done("pair") < NUM_PROMPTS, "the kill came too late"


def stall(trial: Trial) -> None:
    """A lost machine whose sampler fits on no other: the run says so, and goes on with a smaller pool."""
    with two_machines(trial) as raylet:
        process = trial.job.start()
        trial.moment("sample", process)
        lose(trial, raylet)
        assert process.wait(WAIT_S) == 1, "the run did not end with an error"
    said = trial.job.output.read_text()
    assert "nothing was finished for 0.3 minutes" in said, "the error does not say what happened"
    (state,) = (trial.job.config.root / "logs").glob("stall-*.txt")
    assert "DEAD" in state.read_text() and "shards pending" in state.read_text()
    trial.job.whole = False
    given = yaml.safe_load(trial.job.file.read_text())
    given["compute"]["sample"]["num_cpus"] = 0.5
    trial.job.file.write_text(yaml.safe_dump(given))
    trial.finish(trial.job.start())  # on this machine alone, with what it has


def kill_trainer(trial: Trial) -> None:
    """One of two training workers."""
    process = trial.job.start()
    wait_for_step(trial, process)
    workers = [p for p in trial.job.processes() if "RayTrainWorker" in " ".join(p.cmdline())]
    trial.kill(trial.draw.choice(workers), "a training worker")
    assert not (metrics(trial.job).parent / "model").exists(), "the kill came too late"
    trial.finish(process)
    starts = (metrics(trial.job).parent / "logs" / "starts.txt").read_text().splitlines()
    assert len(starts) == 2, f"the workers were started {len(starts)} times"


def kill_driver_in_training(trial: Trial) -> None:
    """The driver, while its workers train."""
    process = trial.job.start()
    wait_for_step(trial, process)
    trial.kill(psutil.Process(process.pid), "the driver")
    assert process.wait() == -signal.SIGKILL
    assert not (metrics(trial.job).parent / "model").exists(), "the kill came too late"
    trial.finish(trial.job.start())


def wait_for_step(trial: Trial, process: subprocess.Popen[str]) -> None:
    """A drawn moment in training."""
    step = trial.draw.randrange(3, 13)
    trial.wait_for(f"step {step} of training", lambda: steps(trial.job) >= step, process)


def metrics(job: Job) -> Path:
    """One line per training step."""
    return next(iter(job.config.root.glob("*-train")), job.config.root / "none") / "metrics.jsonl"


def steps(job: Job) -> int:
    """Training steps that are done."""
    path = metrics(job)
    return path.read_text().count("\n") if path.exists() else 0


FAULTS: dict[str, Callable[[Trial], None]] = {
    "sampler": lambda trial: kill_actor(trial, "sample"),
    "reward": lambda trial: kill_actor(trial, "score"),
    "engine": kill_engine,
    "driver": kill_driver,
    "local-driver": kill_driver,
    "raylet": kill_raylet,
    "stall": stall,
    "trainer": kill_trainer,
    "driver-in-training": kill_driver_in_training,
    "vllm": lambda trial: kill_engine(trial, "EngineCore"),
}
