"""Parts of a run: together the whole, alone from what is stored, and refused where that is not there."""

from __future__ import annotations

import os
import runpy
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from rayflow.config import RunConfig
from rayflow.config.reward import RewardConfig
from rayflow.errors import ArtifactError, ConfigError
from rayflow.pipeline import commands
from rayflow.pipeline.parts import PARTS, stages_of
from rayflow.pipeline.reward_plan import build_reward_plan
from rayflow.pipeline.run_plan import build_run_plan
from tests.pipeline.helpers import run_data, tables

ROOT = Path(__file__).parents[2]


def parts_of(plan) -> dict[str, list[str]]:  # noqa: ANN001
    return {part: stages_of(plan, only=part) for part in PARTS if set(PARTS[part]) & set(plan.stages)}


def evaluated(settings: dict) -> dict:
    return {**settings, "prompts": {**settings["prompts"], "evaluation": settings["prompts"]["train"]}}


def test_the_parts_are_the_whole_run_each_stage_once(settings: dict) -> None:
    plan = build_run_plan(RunConfig.model_validate(evaluated(settings)))
    parts = parts_of(plan)
    assert [stage for part in parts.values() for stage in part] == list(plan.stages)
    assert parts["sample"] == ["prompts", "sample"] and parts["select"] == ["select", "pair"]
    assert parts["train"] == ["reference", "train"]
    assert parts["evaluate"][-1] == "evaluate" and "eval-sample-policy" in parts["evaluate"]


def test_everything_up_to_a_part_is_the_parts_before_it(settings: dict) -> None:
    plan = build_run_plan(RunConfig.model_validate(evaluated(settings)))
    parts = parts_of(plan)
    assert stages_of(plan, until="score") == parts["sample"] + parts["score"]
    assert stages_of(plan, until="evaluate") == list(plan.stages)
    assert stages_of(plan) is None


def test_a_run_on_given_responses_begins_with_its_training(settings: dict) -> None:
    given = {k: v for k, v in settings.items() if k not in ("select", "sample")} | {"source": "direct"}
    plan = build_run_plan(RunConfig.model_validate(given))
    assert stages_of(plan, only="train") == ["prompts", "encode", "reference", "train"]
    with pytest.raises(ConfigError, match="no part 'score'; its configuration asks for train"):
        stages_of(plan, only="score")


def test_a_reward_model_s_training_has_parts_too(settings: dict, tiny_model: str) -> None:
    data = {"train": settings["prompts"]["train"]}
    config = RewardConfig.model_validate(
        {"name": "r", "model": tiny_model, "kind": "classifier", "data": data}
    )
    parts = parts_of(build_reward_plan(config))
    assert parts == {
        "train": ["prompts", "encode", "train"],
        "evaluate": ["eval-prompts", "eval-judge", "evaluate"],
    }


def test_a_wrong_part_is_a_sentence(config: RunConfig) -> None:
    with pytest.raises(ConfigError, match="Unknown part 'pair'. The parts of a run: sample, score"):
        stages_of(build_run_plan(config), only="pair")
    with pytest.raises(ConfigError, match="not both"):
        stages_of(build_run_plan(config), only="score", until="score")


@pytest.fixture
def trainable(settings: dict, tiny_model: str) -> dict:
    """With a real model's folder, because commands look at it; the engine is the fake one."""
    engine = {"kind": "fake", "max_model_len": 256}
    return {**settings, "model": tiny_model, "sample": {**settings["sample"], "engine": engine}}


def run_script(script: str, config: Path, *more: str) -> subprocess.CompletedProcess:
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.run(
        [sys.executable, str(ROOT / "jobs" / script), str(config), *more],
        capture_output=True,
        text=True,
        env=env,
    )


@pytest.fixture
def run_here(monkeypatch: pytest.MonkeyPatch) -> Callable[..., int]:
    """`run_script` without a process of its own, which would import everything anew; gives the exit status."""

    def run(script: str, config: Path, *more: str) -> int:
        monkeypatch.setattr(sys, "argv", [script, str(config), *more])
        monkeypatch.setattr(sys, "path", list(sys.path))
        with pytest.raises(SystemExit) as ended:
            runpy.run_path(str(ROOT / "jobs" / script), run_name="__main__")
        return ended.value.code or 0

    return run


def test_the_entry_points_run_one_after_another_and_give_what_the_whole_run_gives(
    trainable: dict, tmp_path: Path, run_here: Callable[..., int], capsys: pytest.CaptureFixture[str]
) -> None:
    """`select.py` as a process: a script's folder comes first on the import path, and `select` is in the library."""
    path = tmp_path / "run.yaml"
    path.write_text(yaml.safe_dump(trainable))
    assert run_here("score.py", path) == 1
    assert "01-prompts is not finished; run it first" in capsys.readouterr().err
    for script in ("sample.py", "score.py"):
        assert run_here(script, path) == 0, capsys.readouterr()
    selected = run_script("select.py", path)
    assert selected.returncode == 0, selected.stdout + selected.stderr
    parts = RunConfig.model_validate(trainable)
    whole = parts.model_copy(update={"name": "whole"})
    plan, _ = run_data(whole)
    stored = build_run_plan(parts)
    assert not stored.artifacts["train"].folder.exists()
    for name, rows in tables(plan).items():
        artifact = stored.artifacts[name]
        assert [r for i in range(artifact.num_shards) for r in artifact.shards.read(i).to_pylist()] == rows


def test_training_and_evaluation_go_by_what_is_stored(
    trainable: dict, tmp_path: Path, run_here: Callable[..., int], capsys: pytest.CaptureFixture[str]
) -> None:
    training = {"learning_rate": 1e-3, "batch_size": 5, "precision": "float32"}
    small = {"reference": {"precision": "float32"}, "train": training, "evaluate": {"num_samples": 2}}
    given = evaluated(trainable) | small
    path = tmp_path / "run.yaml"
    path.write_text(yaml.safe_dump(given))
    assert run_here("pipeline.py", path, "--until", "select") == 0
    assert run_here("evaluate.py", path) == 1
    assert "07-train is not finished; run it first" in capsys.readouterr().err
    for script in ("train.py", "evaluate.py"):
        assert run_here(script, path) == 0, capsys.readouterr()
    plan = build_run_plan(RunConfig.model_validate(given))
    assert all(artifact.committed for artifact in plan.artifacts.values())
    assert plan.artifacts["train"].manifest().extra["num_steps"] == 2


def test_a_part_takes_further_options_of_run(
    trainable: dict, tmp_path: Path, run_here: Callable[..., int], capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "run.yaml"
    path.write_text(yaml.safe_dump(trainable))
    assert run_here("pipeline.py", path, "--until", "select", "--set", "name=other") == 0
    assert (Path(trainable["runs_dir"]) / "other" / "05-pair" / "manifest.json").exists()
    changed = ("--set", "name=other", "--set", "select.beta=0.9")
    assert run_here("select.py", path, *changed) == 1
    assert "--force-stage select" in capsys.readouterr().err
    assert run_here("select.py", path, *changed, "--force-stage", "select") == 0


def test_parts_are_of_one_round(settings: dict) -> None:
    from rich.console import Console

    config = RunConfig.model_validate({**settings, "rounds": {"num": 2}})
    with pytest.raises(ConfigError, match="work on one round"):
        commands.run(config, Console(), only="score")


def test_a_part_whose_input_is_missing_starts_nothing(config: RunConfig) -> None:
    from rich.console import Console

    from rayflow.pipeline.execute import Pipeline

    class Runner:
        def start(self, stages) -> None:  # noqa: ANN001
            raise AssertionError("started")

        def stop(self) -> None:
            pass

    with pytest.raises(ArtifactError, match="01-prompts is not finished"):
        Pipeline(build_run_plan(config), Runner(), Console(quiet=True)).run(only=["score"])
