"""Selecting, measuring the range and reporting hold a few shards in memory, never the run."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace

import numpy as np
import pyarrow as pa
import pytest

from rayflow.config import PoolOptions
from rayflow.config.blocks import ComputeOptions
from rayflow.core.registry import resolve
from rayflow.core.rows import Accepted, Reference, Scores
from rayflow.pipeline.artifact import Artifact
from rayflow.pipeline.report_columns import reference_section, selection_section
from rayflow.pipeline.runner import LocalRunner
from rayflow.pipeline.shards import Shards
from rayflow.pipeline.stage import ShardWorker, read_rows
from rayflow.pipeline.stages.range import RangeStage
from rayflow.pipeline.stages.select import SelectStage
from tests.pipeline.test_distributions import Ends, ends_of, store

NUM_SHARDS, NUM_PROMPTS, N = 80, 100, 64
SHARD_BYTES = NUM_PROMPTS * N * 8
MOST = 12 * SHARD_BYTES
"""Two shards at once, of the report with their words, and what decoding a file takes for a moment."""


@pytest.fixture(scope="module")
def scores(tmp_path_factory: pytest.TempPathFactory) -> Artifact:
    rng = np.random.default_rng(0)
    shards = [
        [Scores(prompt_id=f"{i}-{j}", rewards=rng.normal(size=N)) for j in range(NUM_PROMPTS)]
        for i in range(NUM_SHARDS)
    ]
    return store(Artifact(tmp_path_factory.mktemp("run") / "03-score"), Scores, shards)


@pytest.fixture
def peak(monkeypatch: pytest.MonkeyPatch) -> Callable[[Callable[[], object]], int]:
    """Most bytes that columns from files occupy while something runs; arrays and rows are views of them."""
    read = Shards.read
    seen: list[int] = []

    def noted(self: Shards, *arguments: object) -> pa.Table:
        table = read(self, *arguments)
        seen.append(pa.total_allocated_bytes())
        return table

    monkeypatch.setattr(Shards, "read", noted)

    def measure(work: Callable[[], object]) -> int:
        seen.clear()
        before = pa.total_allocated_bytes()
        work()
        assert len(seen) >= NUM_SHARDS
        return max(seen) - before

    return measure


def test_reading_a_whole_run_at_once_would_show(scores: Artifact, peak: Callable) -> None:
    assert peak(lambda: [read_rows([scores], i, Scores) for i in range(NUM_SHARDS)]) > 3 * MOST


def test_selection_and_its_report_hold_a_few_shards(scores: Artifact, peak: Callable, tmp_path) -> None:
    stage = SelectStage("select", ("score",), resolve("selection", "gumbel").Config(), 7, PoolOptions())
    selected = Artifact(tmp_path / "04-select")
    selected.begin({}, NUM_SHARDS)
    worker, runner = ShardWorker(stage, (scores,), selected), LocalRunner(ComputeOptions(runner="local"))
    assert peak(lambda: runner.run_shards([worker], range(NUM_SHARDS), check=lambda: None)) < MOST
    assert sum(len(read_rows([selected], i, Accepted)) for i in range(NUM_SHARDS)) == NUM_SHARDS * NUM_PROMPTS
    ends = [[ends_of(row) for row in read_rows([scores], i, Scores)] for i in range(NUM_SHARDS)]
    sampled = store(Artifact(tmp_path / "02-sample"), Ends, ends)
    assert peak(lambda: selection_section([sampled, scores, selected], target=8)) < MOST


def test_the_range_is_found_shard_by_shard(scores: Artifact, peak: Callable, tmp_path) -> None:
    context = SimpleNamespace(
        artifact=Artifact(tmp_path / "04-range"), identity={}, artifacts={"score": scores}
    )
    assert peak(lambda: RangeStage("range", ("score",)).run(context)) < MOST


def test_the_reference_is_compared_shard_by_shard(peak: Callable, tmp_path) -> None:
    differences = np.random.default_rng(1).normal(size=(NUM_SHARDS, NUM_PROMPTS, N)).astype(np.float32)
    differences[3:, :, ::2] = np.nan
    differences[3] = np.nan  # a shard in which nothing is known from both
    shards = [
        [
            Reference(prompt_id=f"{i}-{j}", ref_logprobs=-np.abs(row), sampler_differences=row)
            for j, row in enumerate(shard)
        ]
        for i, shard in enumerate(differences)
    ]
    stored, found = store(Artifact(tmp_path / "06-reference"), Reference, shards), []
    assert peak(lambda: found.append(reference_section(stored, "recompute", threshold=0.5))) < MOST
    known = np.abs(differences[np.isfinite(differences)].astype(np.float64))
    assert (found[0].num_compared, found[0].max_difference) == (known.size, known.max())
    assert found[0].mean_difference == pytest.approx(known.mean())
