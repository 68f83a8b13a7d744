"""What a runner says of its cluster: that there is none, or what it has."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest
import ray

from rayflow.config.blocks import ComputeOptions, NodeOptions, PoolOptions
from rayflow.dist.runner import RayRunner
from rayflow.errors import ConfigError, StageError

CODE = """
import sys
from pathlib import Path
from rayflow.config.blocks import ComputeOptions
from rayflow.dist import runner
from rayflow.errors import StageError
runner.ANSWER_S = 1
try:
    runner.RayRunner(ComputeOptions(address=sys.argv[1]), Path(sys.argv[2])).start([])
except StageError as error:
    print(error)
"""


def test_no_cluster_at_the_address_is_a_sentence(tmp_path: Path) -> None:
    """In a process of its own, for this one may have a Ray already."""
    command = [sys.executable, "-c", CODE, "127.0.0.1:9", str(tmp_path / "logs")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    assert done.stdout.startswith("No Ray cluster answers at '127.0.0.1:9': ")
    assert "refused" in done.stdout  # from its port, not from Ray, which tries for minutes


@pytest.mark.parametrize(
    "error",
    [RuntimeError("Version mismatch: the cluster has 2.40"), ray.exceptions.AuthenticationError("No token")],
)
def test_a_cluster_that_cannot_be_joined_is_a_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    def refuse(**_: object) -> None:
        raise error

    monkeypatch.setattr("ray.is_initialized", lambda: False)
    monkeypatch.setattr("ray.init", refuse)
    monkeypatch.setattr("rayflow.dist.runner._wait_for", lambda address: None)
    with pytest.raises(
        StageError, match="cannot be joined: it must have this environment's versions of Ray"
    ) as told:
        RayRunner(ComputeOptions(address="head:6379"), tmp_path).start([])
    assert str(error).splitlines()[0] in str(told.value)


def test_a_cluster_that_grows_is_counted_as_large_as_it_may_become(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ray.cluster_resources", lambda: {"CPU": 8.0})
    monkeypatch.setattr("ray.nodes", lambda: [{"Alive": True}])
    nodes = (NodeOptions(name="sampler", count=2, num_cpus=64, num_gpus=8),)
    grows = RayRunner(ComputeOptions(address="auto", nodes=nodes), tmp_path)
    assert (grows._have("CPU"), grows._have("GPU"), grows._num_nodes) == (128, 16, 2)
    stays = RayRunner(ComputeOptions(address="auto"), tmp_path)
    assert (stays._have("CPU"), stays._have("GPU"), stays._num_nodes) == (8, 0, 1)


@dataclass
class Stage:
    name: str
    pool: PoolOptions
    models = ()


def started(runner: RayRunner, *stages: Stage) -> None:
    """`RayRunner.start` after Ray has answered."""
    runner._check_resources(stages)


def test_a_group_that_this_machine_never_holds_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ray Train waits for the whole group: that a single worker has room does not help."""
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    monkeypatch.setattr("ray.cluster_resources", lambda: {"CPU": 16.0, "GPU": 4.0, "memory": 1e10})
    here = RayRunner(ComputeOptions(), tmp_path)
    started(here, Stage("train", PoolOptions(num_workers=4, num_gpus=1)))
    with pytest.raises(
        ConfigError, match="'train' cannot be placed: 8 workers of 1 CPU, 1 GPU, .* room for 4"
    ):
        started(here, Stage("train", PoolOptions(num_workers=8, num_gpus=1)))
    grows = PoolOptions.model_validate({"num_workers": {"min": 4, "max": 8}, "num_gpus": 1})
    started(here, Stage("sample", grows))


def test_of_a_cluster_that_may_grow_it_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    nodes = [{"Alive": alive, "Resources": {"CPU": 8.0, "trainer": 1.0}} for alive in (True, True, False)]
    monkeypatch.setattr("ray.nodes", lambda: nodes)
    monkeypatch.setattr("ray.cluster_resources", lambda: {"CPU": 16.0})
    joined = RayRunner(ComputeOptions(address="auto"), tmp_path)
    started(joined, Stage("train", PoolOptions(num_workers=2, num_cpus=8, resources={"trainer": 1})))
    assert capsys.readouterr().out == ""
    started(
        joined, Stage("train", PoolOptions(num_workers=3, num_cpus=6))
    )  # 18 CPUs, and one fits on each machine
    said = capsys.readouterr().out
    assert "as the cluster is now, it would wait without an end" in said
    assert "room for 2" in said and "name the machines it grows to in compute.nodes" in said
