"""Ray Data streams: the same artifacts as the local runner, through failures of rows, actors and code."""

from __future__ import annotations

import os
import time
from dataclasses import dataclass
from pathlib import Path

import pytest

from rayflow.config import RunConfig
from rayflow.dist.runner import RayRunner
from rayflow.errors import ArtifactError, ConfigError, EngineDeadError, StageError
from rayflow.pipeline.plan import Plan
from rayflow.pipeline.stage import ShardWorker
from rayflow.pipeline.stages.score import ScoreStage
from tests.pipeline.conftest import NUM_PROMPTS, cheerful, config, prompt_file, settings  # noqa: F401
from tests.pipeline.helpers import run_data, tables
from tests.pipeline.test_resample import RULE, WORDS, finish

pytestmark = pytest.mark.usefixtures("ray_cluster")


def ray_runner(config: RunConfig) -> RayRunner:  # noqa: F811
    return RayRunner(config.compute, config.root / "logs")


def test_the_ray_runner_stores_what_the_local_runner_stores(config: RunConfig) -> None:  # noqa: F811
    local, _ = run_data(config)
    other = config.model_copy(update={"name": "on-ray"})
    plan, text = run_data(other, runner=ray_runner(other))
    assert tables(plan) == tables(local)
    assert "pair" in text
    assert list((other.root / "logs").glob("sample-*.log"))


def test_a_pairwise_reward_labels_on_ray_as_it_does_here(settings: dict) -> None:  # noqa: F811
    """Its pool is one of actors, which read the prompts and the candidates again."""
    compute = {"shard_size": 4, "score": {"num_cpus": 0.25}}
    reward = {"kind": "tests.pipeline.judges:Counting"}
    local = RunConfig.model_validate({**settings, "reward": reward})
    other = RunConfig.model_validate({**settings, "reward": reward, "name": "on-ray", "compute": compute})
    here, _ = run_data(local)
    there, _ = run_data(other, runner=ray_runner(other))
    assert tables(there)["pair"] == tables(here)["pair"]
    assert {row["label_source"] for row in tables(there)["pair"]} == {"ranker"}
    assert list((other.root / "logs").glob("pair-*.log"))


def test_short_prompts_are_sampled_again_on_ray_as_they_are_here(settings: dict) -> None:  # noqa: F811
    sample = {"engine": {"kind": "fake", "words": WORDS}, "num_candidates": 16, "max_tokens": 10}
    local = RunConfig.model_validate({**settings, "sample": sample, "select": RULE})
    compute = {"shard_size": 4, "sample": {"num_cpus": 1}, "score": {"num_cpus": 0.5}}
    other = local.model_validate({**local.model_dump(), "name": "on-ray", "compute": compute})
    here = finish(local)
    there = finish(other, ray_runner(other))
    assert tables(there) == tables(here)
    assert here.artifacts["resample-1"].manifest().num_rows > 0
    assert list((other.root / "logs").glob("resample-1-*.log"))


def test_scoring_starts_while_later_prompts_are_still_sampled(settings: dict) -> None:  # noqa: F811
    engine = {"kind": "fake", "latency_seconds": 0.5}
    compute = {"runner": "ray", "shard_size": 1, "sample": {"num_cpus": 1}, "score": {"num_cpus": 0.5}}
    sample = {**settings["sample"], "engine": engine}
    slow = RunConfig.model_validate({**settings, "sample": sample, "compute": compute})
    plan, _ = run_data(slow, runner=ray_runner(slow))
    first_score = min(p.stat().st_mtime for p in plan.artifacts["score"].shards.folder.glob("*.json"))
    last_sample = max(p.stat().st_mtime for p in plan.artifacts["sample"].shards.folder.glob("*.json"))
    assert first_score < last_sample


@dataclass
class DiesOnce(ScoreStage):
    """A score stage whose worker's engine dies on one shard, the first time that it is tried."""

    flag: str = ""
    always: bool = False

    async def process(self, rows):  # noqa: ANN001, ANN201
        if any("number 5" in row.prompt for row in rows) and (self.always or not Path(self.flag).exists()):
            Path(self.flag).write_text(str(os.getpid()))
            raise EngineDeadError("gone")
        return await super().process(rows)


def test_a_worker_whose_engine_died_is_replaced_and_no_row_is_lost(config: RunConfig, tmp_path: Path) -> None:  # noqa: F811
    local, _ = run_data(config.model_copy(update={"name": "undisturbed"}))
    plan, workers = from_score(config, flag=str(tmp_path / "died"))
    ray_runner(config).run_shards(workers, range(workers[0].target.num_shards), lambda: None)
    assert (tmp_path / "died").exists()
    assert tables(plan)["pair"] == tables(local)["pair"]
    assert tables(plan)["score"] == tables(local)["score"]


def test_a_worker_that_dies_again_and_again_ends_the_stage(config: RunConfig, tmp_path: Path) -> None:  # noqa: F811
    compute = config.compute.model_copy(update={"max_restarts": 1})
    config = config.model_copy(update={"compute": compute})
    plan, workers = from_score(config, flag=str(tmp_path / "died"), always=True)
    with pytest.raises(StageError, match="A worker of score, select, pair failed[\\s\\S]*run again to go on"):
        ray_runner(config).run_shards(workers, range(workers[0].target.num_shards), lambda: None)
    assert plan.artifacts["score"].shards.committed()


def from_score(config: RunConfig, **fault: object) -> tuple[Plan, list[ShardWorker]]:  # noqa: F811
    """A run that has its samples, and the workers of the stages after them, the first of which dies."""
    plan, _ = run_data(config)
    names = ("score", "select", "pair")
    for name in names:
        plan.artifacts[name].set_aside()
        plan.artifacts[name].begin(plan.identities[name], plan.artifacts["prompts"].num_shards)
    workers = [plan.worker(plan.stages[name]) for name in names]
    stage = plan.stages["score"]
    workers[0].stage = DiesOnce(stage.name, stage.inputs, stage.reward_options, stage.pool, **fault)
    return plan, workers


def test_an_error_of_a_worker_reaches_the_person_as_it_was(config: RunConfig) -> None:  # noqa: F811
    plan, _ = run_data(config)
    artifact = plan.artifacts["sample"]
    path = artifact.shards.folder / artifact.shards.marker(0).file
    path.write_bytes(path.read_bytes()[:100])
    for name in ("score", "select", "pair"):
        plan.artifacts[name].set_aside()
    with pytest.raises(ArtifactError, match="missing or damaged"):
        run_data(config, runner=ray_runner(config))


def test_a_gpu_that_is_not_there_is_refused_before_anything_starts(settings: dict) -> None:  # noqa: F811
    compute = {"runner": "ray", "sample": {"num_gpus": 1}}
    config = RunConfig.model_validate({**settings, "compute": compute})  # noqa: F811
    begin = time.monotonic()
    with pytest.raises(
        ConfigError, match="asks for 1 CPU, 1 GPU, and no machine is that large .this machine: 1 of "
    ):
        run_data(config, runner=ray_runner(config))
    assert time.monotonic() - begin < 30


def test_rows_stop_a_failing_stage(settings: dict) -> None:  # noqa: F811
    reward = {"kind": "rule", "function": "tests.pipeline.conftest:raises"}
    config = RunConfig.model_validate({**settings, "reward": reward, "max_failed_fraction": 0.0})  # noqa: F811
    with pytest.raises(StageError, match=f"score: 1 of {NUM_PROMPTS} rows failed"):
        run_data(config, runner=ray_runner(config))


def test_the_fixture_reward_is_not_constant() -> None:
    assert cheerful("", "good day") != cheerful("", "bad day")
