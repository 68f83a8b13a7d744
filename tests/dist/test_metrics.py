"""What a shard adds to the counters, and what counting costs. That a server can read them: see test_jobs."""

from __future__ import annotations

import time
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from rayflow.config import RunConfig
from rayflow.core.rows import Accepted, Failure, Scores
from rayflow.dist.metrics import COUNTERS, counts, record, record_step, tags_of, watched_queues
from rayflow.pipeline.artifact import Artifact
from rayflow.pipeline.stage import Work
from tests.pipeline.conftest import config, prompt_file, settings  # noqa: F401
from tests.pipeline.helpers import run_data


def scores(number: int) -> list[Scores]:
    return [Scores(prompt_id=str(i), rewards=np.zeros(64)) for i in range(number)]


def test_a_shard_of_scores_counts_rows_scores_and_failures() -> None:
    work = Work(scores(3), [Failure(prompt_id="x", reason="odd")], 0.5, 0)
    assert counts(work) == {"rows": 3, "failures": 1, "tokens": 0, "scores": 192}


def test_acceptance_is_counted_as_visits_so_that_shards_of_any_size_add_up() -> None:
    rows = [
        Accepted(prompt_id="a", accepted=np.arange(8), num_rounds=1, acceptance_rate=0.25),
        Accepted(prompt_id="b", accepted=np.arange(4), num_rounds=2, acceptance_rate=0.1),
        Accepted(prompt_id="c", accepted=np.arange(0), num_rounds=1, acceptance_rate=0.0),
    ]
    found = counts(Work(rows, [], 0.1, 0))
    assert (found["accepted"], found["visited"]) == (12, 32 + 40)
    assert set(found) <= set(COUNTERS)


@pytest.mark.parametrize(
    ("folder", "name"),
    [
        ("mine", "mine"),
        ("mine/round-2", "mine/round-2"),
        ("study/rows/dpo/seed-1", "study/rows/dpo/seed-1"),
        ("study/gold/dpo/candidates", "study/gold/dpo/candidates"),
        ("study/shared", "study/shared"),
        ("shared", "shared"),
        ("nightly/attempts/2026-11-20-1/run", "nightly/attempts/2026-11-20-1/run"),
        ("nightly/trained/version-3", "nightly/trained/version-3"),
    ],
)
def test_no_two_runs_have_the_same_label(tmp_path: Path, folder: str, name: str) -> None:
    (tmp_path / "study").mkdir()
    (tmp_path / "study" / "config.yaml").touch()
    worker = SimpleNamespace(
        target=Artifact(tmp_path / folder / "02-sample"), stage=SimpleNamespace(name="sample")
    )
    assert tags_of(worker) == {"run": name, "stage": "sample"}


@pytest.mark.usefixtures("ray_cluster")
def test_recording_a_shard_costs_far_less_than_a_millisecond(config: RunConfig) -> None:  # noqa: F811
    plan, _ = run_data(config)
    worker = plan.worker(plan.stages["score"])
    work = Work(scores(8), [], 0.5, 0)
    record(worker, work)
    record(worker, None)  # a shard that another worker committed
    begin = time.perf_counter()
    for _ in range(200):
        record(worker, work)
    took = (time.perf_counter() - begin) / 200
    print(f"{took * 1e6:.0f} microseconds for each shard")
    assert took < 1e-3
    record_step("small", {"step": 1, "loss": 0.5, "tokens_per_second": 10.0})


@pytest.mark.usefixtures("ray_cluster")
def test_queues_are_published_while_a_stream_runs(config: RunConfig, monkeypatch: pytest.MonkeyPatch) -> None:  # noqa: F811
    from rayflow.dist import metrics

    plan, _ = run_data(config)
    seen: list[tuple[str, float]] = []

    class Gauge:
        def set(self, value: float, tags: dict[str, str]) -> None:
            seen.append((tags["stage"], value))

    monkeypatch.setattr(metrics, "_gauge", lambda *_: Gauge())
    workers = [plan.worker(plan.stages[name]) for name in ("sample", "score")]
    score = plan.artifacts["score"]
    committed = score.shards.folder / "00001.json"
    content = committed.read_bytes()
    committed.unlink()
    with watched_queues(workers):
        assert seen == [("sample", 0), ("score", 1)]
        committed.write_bytes(content)
    assert seen[-2:] == [("sample", 0), ("score", 0)]
