"""Placement: counted as Ray counts, before any machine is started."""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace

import pytest
from rich.console import Console

from rayflow.config import ComputeOptions, NodeOptions, PoolOptions, RunConfig
from rayflow.errors import ConfigError
from rayflow.pipeline import commands
from rayflow.pipeline.placement import place
from rayflow.pipeline.preflight import preflight
from rayflow.pipeline.run_plan import build_run_plan
from tests.pipeline.conftest import config, prompt_file, settings  # noqa: F401


@dataclass
class Stage:
    name: str
    pool: PoolOptions
    actor: bool = True


def placed(nodes: list[NodeOptions], *steps: tuple[Stage, ...]) -> dict:
    plan = SimpleNamespace(config=SimpleNamespace(compute=ComputeOptions(nodes=tuple(nodes))), steps=steps)
    return {name: dict(found) for name, found in place(plan).items()}


def pool(workers: int, gpus: float, cpus: float = 1, **resources: float) -> PoolOptions:
    return PoolOptions(num_workers=workers, num_cpus=cpus, num_gpus=gpus, resources=resources)


BIG = NodeOptions(name="big", count=2, num_cpus=16, num_gpus=8)
HEAD = NodeOptions(name="head", num_cpus=4)


def test_without_machines_nothing_is_said() -> None:
    assert placed([], (Stage("sample", pool(100, 8)),)) == {}


def test_steps_use_the_machines_one_after_the_other_and_streams_share_them() -> None:
    every = Stage("train", pool(16, 1))
    stream = (Stage("sample", pool(14, 1)), Stage("score", pool(2, 1)))
    found = placed([HEAD, BIG], stream, (every,))
    assert found == {"sample": {"big": 14}, "score": {"big": 2}, "train": {"big": 16}}
    with pytest.raises(ConfigError, match=r"Stage 'score' cannot be placed: 3 workers .* beside sample"):
        placed([HEAD, BIG], (Stage("sample", pool(14, 1)), Stage("score", pool(3, 1))))


def test_a_worker_is_on_one_machine() -> None:
    with pytest.raises(ConfigError, match="asks for 1 CPU, 16 GPU, and no machine is that large"):
        placed([HEAD, BIG], (Stage("sample", pool(1, 16)),))
    with pytest.raises(ConfigError, match="3 workers of 1 CPU, 5 GPU, and the machines have room for 2"):
        placed([HEAD, BIG], (Stage("sample", pool(3, 5)),))


def test_a_share_of_a_gpu_is_on_one_device() -> None:
    two = NodeOptions(name="two", num_cpus=16, num_gpus=2)
    assert placed([two], (Stage("a", pool(2, 0.6)), Stage("b", pool(2, 0.4)))) == {
        "a": {"two": 2},
        "b": {"two": 2},
    }
    with pytest.raises(ConfigError, match="have room for 2"):
        placed([two], (Stage("a", pool(3, 0.6)),))  # 1.8 of 2, but no device has .6 left
    with pytest.raises(ConfigError, match="no machine is that large"):
        placed([two], (Stage("a", pool(1, 1.5)),))  # Ray refuses such a number


def test_pools_stay_in_their_group() -> None:
    groups = [
        NodeOptions(name="sampler", num_cpus=16, num_gpus=4, resources={"sampler": 4}),
        NodeOptions(name="reward", num_cpus=16, num_gpus=4, resources={"reward": 4}),
    ]
    stream = (Stage("sample", pool(4, 1, sampler=1)), Stage("score", pool(8, 0.5, reward=0.5)))
    assert placed(groups, stream) == {"sample": {"sampler": 4}, "score": {"reward": 8}}
    with pytest.raises(ConfigError, match="'sample' cannot be placed: 5 workers"):
        placed(groups, (Stage("sample", pool(5, 1, sampler=1)),))
    with pytest.raises(ConfigError, match="1 trainer, and no machine is that large"):
        placed(groups, (Stage("train", pool(1, 1, trainer=1)),))


def test_light_work_goes_where_no_gpu_waits_and_a_task_needs_room_for_one_at_a_time() -> None:
    tasks = Stage("select", pool(1, 0, cpus=0.25), actor=False)
    assert placed([BIG, HEAD], (Stage("sample", pool(16, 1)), tasks))["select"] == {"head": 1}
    with pytest.raises(ConfigError, match="'select' cannot be placed"):
        placed([NodeOptions(name="full", num_cpus=1, num_gpus=1)], (Stage("sample", pool(1, 1)), tasks))


def test_cpus_are_counted_too() -> None:
    with pytest.raises(ConfigError, match="16 workers of 4 CPU, 1 GPU, and the machines have room for 8"):
        placed([BIG], (Stage("sample", pool(16, 1, cpus=4)),))


def test_a_run_is_refused_before_it_starts(settings: dict, tiny_model: str) -> None:  # noqa: F811
    compute = {"nodes": [{"name": "small", "num_cpus": 2}], "train": {"num_workers": 3, "num_cpus": 1}}
    config = RunConfig.model_validate({**settings, "model": tiny_model, "compute": compute})  # noqa: F811
    with pytest.raises(ConfigError, match="'train' cannot be placed: 3 workers .* have room for 2"):
        preflight(build_run_plan(config))


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ({"attention": "flex"}, "compute.train.num_gpus is 0: give the workers GPUs"),
        ({"share_prompt": True}, "share_prompt=true cannot be used: model family 'gpt2'"),
    ],
)
def test_training_that_could_not_begin_is_refused_before_sampling(
    settings: dict,  # noqa: F811
    tiny_model: str,
    tmp_path: Path,
    setting: dict,
    message: str,
) -> None:
    model = shutil.copytree(tiny_model, tmp_path / "other")
    stored = json.loads((model / "config.json").read_text())
    (model / "config.json").write_text(json.dumps(stored | {"model_type": "gpt2"}))
    train = {**settings.get("train", {}), **setting}
    made = RunConfig.model_validate({**settings, "model": str(model), "train": train})
    with pytest.raises(ConfigError, match=message):
        preflight(build_run_plan(made))


@pytest.mark.parametrize(
    ("compute", "refused"),
    [
        ({"train": {"num_workers": 2}}, None),
        (
            {"train": {"num_workers": 8}},
            "'train' cannot be placed: 8 workers of 1 CPU.* have room for 2 .this machine",
        ),
        (
            {"sample": {"num_gpus": 1}},
            "'sample' cannot be placed: .* 1 GPU, .* or set compute.address to a cluster",
        ),
        ({"train": {"num_workers": 8}, "address": "auto"}, None),
        ({"train": {"num_workers": 8}, "runner": "local"}, None),
        ({"train": {"num_workers": 8}, "nodes": [{"name": "big", "num_cpus": 64}]}, None),
        ({"sample": {"num_workers": {"min": 2, "max": 9}}}, None),
    ],
)
def test_a_dry_run_knows_what_the_ray_of_this_machine_will_hold(
    settings: dict,  # noqa: F811
    tiny_model: str,
    compute: dict,
    refused: str | None,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    monkeypatch.setattr("os.cpu_count", lambda: 2)
    monkeypatch.setattr("rayflow.pipeline.placement.num_gpus", lambda: 0)
    compute = {"runner": "ray", **compute}
    config = RunConfig.model_validate({**settings, "model": tiny_model, "compute": compute})  # noqa: F811
    if refused is None:
        commands.run(config, Console(quiet=True), dry_run=True)
        return
    with pytest.raises(ConfigError, match=refused):
        commands.run(config, Console(quiet=True), dry_run=True)
