"""The run that a trial disturbs: a configuration, the process that runs it, and what it must leave behind."""

from __future__ import annotations

import hashlib
import io
import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path

import psutil
import pyarrow as pa
import pyarrow.parquet as pq
import yaml

from rayflow.config import RunConfig, load_config
from rayflow.pipeline.artifact import Artifact
from tests.pipeline.conftest import cheerful


def heed_interrupts() -> None:
    """What a shell starts in the background ignores Ctrl-C, and so does what that starts: the tests themselves, say."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


ROOT = Path(__file__).parents[2]
NUM_PROMPTS = 16
NUM_CANDIDATES = 4
LATENCY_S = 0.4

RAY = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": "0" * 64, "RAY_prestart_worker_first_driver": "0"}
"""Of these tests' own clusters; without processes that wait for tasks which never come."""


def slow_cheerful(prompt: str, response: str) -> float:
    """The rule of the other tests, slow enough that a kill finds it at work."""
    time.sleep(0.04)
    return cheerful(prompt, response)


def settings(folder: Path, name: str) -> dict:
    """A run up to the pairs that takes a few seconds: a shard a prompt, an engine that is slow and exact."""
    prompts = folder / "prompts.jsonl"
    if not prompts.exists():
        rows = [{"prompt": f"Tell me of number {i}."} for i in range(NUM_PROMPTS)]
        prompts.write_text("".join(json.dumps(row) + "\n" for row in rows))
    pool = {"num_cpus": 0.25}
    return {
        "name": name,
        "runs_dir": str(folder / "runs"),
        "seed": 3,
        "model": "fake",
        "prompts": {"train": {"path": str(prompts)}},
        "sample": {
            "engine": {"kind": "tests.chaos.engine:ChildEngine", "latency_seconds": LATENCY_S},
            "num_candidates": NUM_CANDIDATES,
            "max_tokens": 12,
        },
        "reward": {"kind": "rule", "function": "tests.chaos.job:slow_cheerful"},
        "select": {"beta": 0.1, "num_accepted": 2},
        "compute": {
            "shard_size": 1,
            "sample": {**pool, "num_workers": 2},
            "score": {**pool, "num_workers": 1},
            "transform": {"num_cpus": 0.25},
        },
    }


@dataclass
class Job:
    """A run's process, and its folder.

    Attributes:
        config: of the run.
        home: folder for Ray's token and its temporary files; short, for sockets lie in it.
        whole: train and report too, rather than end with the pairs.
        environment: further variables.
    """

    config: RunConfig
    home: Path
    whole: bool = False
    environment: dict[str, str] = field(default_factory=dict)

    @classmethod
    def of(cls, settings: dict, home: Path, **more: object) -> Job:
        """Written to a file, as a person would have it."""
        path = Path(settings["runs_dir"]).parent / f"{settings['name']}.yaml"
        path.write_text(yaml.safe_dump(settings))
        return cls(load_config(path), home, **more)

    @property
    def variables(self) -> dict[str, str]:
        """What marks every process of this job, and keeps it to itself."""
        kept = {key: value for key, value in os.environ.items() if not key.startswith("RAY_")}
        own = {"HOME": str(self.home), "RAY_TMPDIR": str(self.home), "PYTHONPATH": str(ROOT)}
        return kept | own | RAY | self.environment

    def start(self) -> subprocess.Popen[str]:
        """Run it, in a session of its own, its output in a file."""
        program = ["rayflow", "run"] if self.whole else ["tests.chaos.job"]
        with open(self.output, "a") as sink:
            return subprocess.Popen(
                [sys.executable, "-m", *program, str(self.file)],
                stdout=sink,
                stderr=subprocess.STDOUT,
                env=self.variables,
                cwd=ROOT,
                start_new_session=True,
                preexec_fn=heed_interrupts,
                text=True,
            )

    @property
    def file(self) -> Path:
        """The configuration that it is started with."""
        return self.output.with_suffix(".yaml")

    @property
    def output(self) -> Path:
        """What the runs of this job have printed."""
        return Path(self.config.runs_dir).parent / f"{self.config.name}.txt"

    def artifact(self, stage: str) -> Artifact:
        """A stage's folder."""
        (folder,) = self.config.root.glob(f"*-{stage}")
        return Artifact(folder)

    def done(self, stage: str) -> int:
        """Shards of a stage that are committed."""
        folders = list(self.config.root.glob(f"*-{stage}"))
        return len(Artifact(folders[0]).shards.committed()) if folders else 0

    def processes(self) -> list[psutil.Process]:
        """Every living process that this job, or its Ray, has started."""
        found = []
        for process in psutil.process_iter():
            try:
                ours = process.environ().get("RAY_TMPDIR") == str(self.home)
                if ours and process.status() != psutil.STATUS_ZOMBIE:
                    found.append(process)
            except psutil.Error:
                continue
        return found

    def end(self) -> None:
        """Kill what is left of it."""
        left = self.processes()
        for process in left:
            try:
                process.kill()
            except psutil.Error:
                continue
        psutil.wait_procs(left, timeout=10)


def digests(root: Path) -> dict[str, str]:
    """SHA-256 of every stage's rows, sorted by prompt: equal digests are equal tables, byte for byte.

    Raises:
        AssertionError: a stage holds a prompt twice, or lacks one.
    """
    found = {}
    for folder in sorted(root.glob("[0-9][0-9]-*")):
        artifact = Artifact(folder)
        if not artifact.manifest().num_shards:
            continue
        table = pa.concat_tables([artifact.shards.read(i) for i in range(artifact.num_shards)])
        ids = table["prompt_id"].to_pylist()
        assert len(ids) == len(set(ids)) == NUM_PROMPTS, (
            f"{folder.name} holds {len(ids)} rows, {len(set(ids))} prompts"
        )
        sink = io.BytesIO()
        pq.write_table(table.sort_by("prompt_id").combine_chunks(), sink)
        found[artifact.name] = hashlib.sha256(sink.getvalue()).hexdigest()
    return found


if __name__ == "__main__":
    from rich.console import Console

    from rayflow.pipeline.commands import make_runner
    from rayflow.pipeline.execute import Pipeline
    from tests.pipeline.helpers import data_plan

    given = load_config(sys.argv[1])
    Pipeline(data_plan(given), make_runner(given), Console()).run()
