"""Pools that follow their queue, and workers that share or hold several GPUs: on a Ray with GPUs that only count."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from rayflow.config.blocks import PoolOptions, WorkerRange
from rayflow.pipeline.shards import Shards

pytestmark = pytest.mark.slow
NUM_SHARDS = 24


@dataclass
class Written:
    """What the notes are for whoever counts finished shards."""

    folder: Path
    num_shards: int = NUM_SHARDS

    @property
    def shards(self) -> Shards:
        return Shards(self.folder)


@dataclass
class Notes:
    """A stage and its worker in one: notes which process had which GPUs when, on every shard, after a while."""

    folder: str
    pool: PoolOptions
    seconds: float
    name: str = "notes"
    actor: bool = True
    stage: Notes = field(init=False)
    target: Written = field(init=False)

    def __post_init__(self) -> None:
        self.stage = self
        self.target = Written(Path(self.folder))

    def setup(self) -> None:
        """Nothing to load."""

    async def run(self, index: int) -> None:
        begin = time.time()
        import asyncio

        await asyncio.sleep(self.seconds)
        note = {
            "worker": os.getpid(),
            "gpus": os.environ.get("CUDA_VISIBLE_DEVICES", ""),
            "span": [begin, time.time()],
        }
        Path(self.folder, f"{index}.json").write_text(json.dumps(note))


def run(folder: str, pool: str, seconds: float) -> None:
    """In a process of its own: one stream over the shards."""
    import ray

    from rayflow.dist.data import StreamOptions, run_stream

    ray.init(num_cpus=8, num_gpus=4, include_dashboard=False, log_to_driver=False, logging_level="ERROR")
    worker = Notes(folder, PoolOptions.model_validate_json(pool), seconds)
    run_stream([worker], range(NUM_SHARDS), StreamOptions(Path(folder) / "logs"), lambda: None)


def notes_of(pool: PoolOptions, tmp_path: Path, ray_home: Path, seconds: float = 0.5) -> list[dict]:
    call = f"run({str(tmp_path)!r}, {pool.model_dump_json()!r}, {seconds})"
    code = f"from tests.dist.test_pools import run; {call}"
    environment = {k: v for k, v in os.environ.items() if k not in ("RAY_ADDRESS", "CUDA_VISIBLE_DEVICES")}
    environment |= {"HOME": str(ray_home), "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    notes = [json.loads(path.read_text()) for path in sorted(tmp_path.glob("*.json"))]
    assert len(notes) == NUM_SHARDS
    return notes


def at_once(notes: list[dict]) -> int:
    """The most shards that were computed at the same time."""
    borders = sorted([(n["span"][0], 1) for n in notes] + [(n["span"][1], -1) for n in notes])
    running = most = 0
    for _, change in borders:
        running += change
        most = max(most, running)
    return most


def workers(notes: list[dict]) -> set[int]:
    return {note["worker"] for note in notes}


@pytest.mark.parametrize("in_flight", [1, 3])
def test_a_pool_grows_while_shards_wait_and_never_beyond_its_limit(tmp_path, ray_home, in_flight):
    pool = PoolOptions(num_workers=WorkerRange(min=1, max=3), num_cpus=1, in_flight=in_flight)
    # One worker alone is at it for 12 s: on a busy machine the next one takes as many as five to come.
    notes = notes_of(pool, tmp_path, ray_home, seconds=0.5 * in_flight)
    assert 1 < len(workers(notes)) <= 3
    first = min(notes, key=lambda note: note["span"][0])
    others = [note["span"][0] for note in notes if note["worker"] != first["worker"]]
    assert min(others) > first["span"][0]  # it began with one


def test_workers_share_a_gpu_by_fractions(tmp_path, ray_home):
    notes = notes_of(PoolOptions(num_workers=2, num_cpus=0.5, num_gpus=0.5), tmp_path, ray_home)
    assert len(workers(notes)) == 2
    assert len({note["gpus"] for note in notes}) == 1
    assert at_once(notes) == 2


def test_a_worker_of_several_gpus_has_them_to_itself(tmp_path, ray_home):
    """What a tensor-parallel engine needs: its actor sees as many devices, and no other actor sees one of them."""
    notes = notes_of(PoolOptions(num_workers=2, num_cpus=0.5, num_gpus=2), tmp_path, ray_home)
    devices = {note["worker"]: note["gpus"].split(",") for note in notes}
    assert [len(own) for own in devices.values()] == [2, 2]
    assert len({device for own in devices.values() for device in own}) == 4
