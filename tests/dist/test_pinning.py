"""Pools stay on the machines whose custom resource they ask for."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from rayflow.config import ComputeOptions, PoolOptions, RunConfig
from rayflow.dist.runner import RayRunner
from rayflow.errors import ConfigError
from tests.pipeline.conftest import prompt_file, settings  # noqa: F401
from tests.pipeline.helpers import run_data


@pytest.mark.slow
def test_pools_run_in_the_group_that_offers_their_resource(tmp_path: Path) -> None:
    environment = {**os.environ, "HOME": str(tmp_path)}
    environment.pop("RAY_ADDRESS", None)
    done = subprocess.run(
        [sys.executable, "-m", "tests.dist.two_groups", str(tmp_path)],
        capture_output=True,
        text=True,
        timeout=300,
        env=environment,
        cwd=Path(__file__).parents[2],
    )
    assert done.returncode == 0, done.stderr[-3000:]
    found = json.loads(done.stdout.strip().splitlines()[-1])
    nodes = found["nodes"]
    assert nodes["sampler"] != nodes["reward"]
    assert found["seen"] == [["sample", nodes["sampler"]], ["score", nodes["reward"]]]


@pytest.mark.usefixtures("ray_cluster")
def test_a_resource_that_this_machine_does_not_offer_is_refused_before_anything_starts(
    settings: dict,  # noqa: F811
) -> None:
    compute = {"runner": "ray", "sample": {"resources": {"sampler": 1}}}
    config = RunConfig.model_validate({**settings, "compute": compute})
    with pytest.raises(ConfigError, match="1 sampler, and no machine is that large .*set compute.address"):
        run_data(config, runner=RayRunner(config.compute, config.root / "logs"))


def test_training_workers_ask_for_their_resource(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    from types import SimpleNamespace

    from rayflow.dist import train

    asked = []

    def remember(job, compute, *_):  # noqa: ANN001, ANN202
        asked.append(compute)
        return SimpleNamespace(metrics_history=[])

    monkeypatch.setattr(train, "train_with_ray", remember)
    pool = PoolOptions(num_workers=8, num_cpus=4, num_gpus=1, resources={"trainer": 1})
    job = SimpleNamespace(output_dir=tmp_path, metrics_path=tmp_path / "metrics.jsonl")
    RayRunner(ComputeOptions(), tmp_path).train(job, pool, 3, lambda _: None)
    (compute,) = asked
    assert compute.resources_per_worker == {"CPU": 4, "GPU": 1, "trainer": 1}
    assert compute.use_gpu and compute.num_workers == 8
