"""Choosing the checkpoint in a whole run: by default against the validation prompts' own targets, as RSO does."""

from __future__ import annotations

import io
import json
from pathlib import Path

import pytest
from rich.console import Console

from rayflow.config import RunConfig
from rayflow.errors import ConfigError, DataError
from rayflow.pipeline import commands
from rayflow.pipeline.run_plan import build_run_plan
from rayflow.pipeline.verify import repair, verify
from tests.pipeline.helpers import tables
from tests.test_whole import finished_run, small_settings

TARGET = "a good and great film"


def chat_file(path: Path, targets: int) -> Path:
    """Six chat prompts, the last `targets` of which have targets."""
    rows = [{"messages": [{"role": "user", "content": f"write review {i}"}]} for i in range(6)]
    for row in rows[len(rows) - targets :]:
        row["target"] = TARGET
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def settings_of(folder: Path, model: str, targets: int, **choose: object) -> dict:
    train, held_out = chat_file(folder / "train.jsonl", 0), chat_file(folder / "valid.jsonl", targets)
    settings = small_settings(folder, train, model)
    settings["prompts"] = {"train": {"path": str(train)}, "validation": {"path": str(held_out)}}
    settings["train"]["choose"] = {"every_steps": 2, "num_samples": 2, **choose}
    return settings


def test_checkpoints_are_compared_with_the_targets(tmp_path: Path, tiny_model: str) -> None:
    settings = settings_of(tmp_path, tiny_model, targets=5)
    settings["max_failed_fraction"] = 0.2
    plan = finished_run(RunConfig.model_validate(settings))
    assert not [name for name in plan.stages if name.startswith("valid-") and "sft" in name]
    stored = tables(plan)
    # The prompt without a target is a failure, and counts for neither side.
    assert [row["responses"] for row in stored["valid-encode-target"]] == [[TARGET]] * 5
    assert [len(row["rewards"]) for row in stored["valid-score-target"]] == [1] * 5
    lines = (plan.artifacts["train"].folder / "metrics.jsonl").read_text().splitlines()
    # A tiny random model says nothing as kind as the target.
    assert [json.loads(line).get("eval/win_rate") for line in lines] == [None, 0.0, 0.0]


def test_a_validation_prompt_without_room_for_an_answer_does_not_count(
    tmp_path: Path, tiny_model: str
) -> None:
    settings = settings_of(tmp_path, tiny_model, targets=6)
    path = Path(settings["prompts"]["validation"]["path"])
    long = {"messages": [{"role": "user", "content": "x" * 490}], "target": "ok"}  # fits with its target only
    path.write_text(path.read_text() + json.dumps(long) + "\n")
    with pytest.raises(DataError, match="than max_failed_fraction=0.05 allows"):  # one of seven
        finished_run(RunConfig.model_validate(settings))
    settings["max_failed_fraction"] = 0.2
    plan = finished_run(RunConfig.model_validate(settings))
    assert len(tables(plan)["valid-score-target"]) == 7
    lines = (plan.artifacts["train"].folder / "metrics.jsonl").read_text().splitlines()
    assert [json.loads(line).get("eval/win_rate") for line in lines] == [None, 0.0, 0.0]


def test_the_evaluation_has_a_baseline_of_its_own(tmp_path: Path, tiny_model: str) -> None:
    settings = settings_of(tmp_path, tiny_model, targets=6)
    settings["prompts"]["evaluation"] = settings["prompts"]["train"]
    stages = build_run_plan(RunConfig.model_validate(settings)).stages
    assert {"valid-score-target", "eval-score-sft"} <= set(stages)
    assert not {"valid-score-sft", "eval-score-target"} & set(stages)


def test_validation_prompts_without_targets_are_refused_before_time_is_spent(
    tmp_path: Path, tiny_model: str
) -> None:
    config = RunConfig.model_validate(settings_of(tmp_path, tiny_model, targets=0))
    with pytest.raises(ConfigError, match=r"valid\.jsonl.*no row.*'target'.*train\.choose\.baseline: sft"):
        commands.run(config, Console(file=io.StringIO()))
    assert not (config.root / "01-prompts").exists()


def test_without_targets_checkpoints_are_compared_with_the_policy_before(
    tmp_path: Path, tiny_model: str
) -> None:
    config = RunConfig.model_validate(settings_of(tmp_path, tiny_model, targets=0, baseline="sft"))
    plan = finished_run(config)
    assert "valid-score-sft" in plan.stages and "valid-score-target" not in plan.stages
    lines = (plan.artifacts["train"].folder / "metrics.jsonl").read_text().splitlines()
    assert 0 < json.loads(lines[-1])["eval/win_rate"] < 1


def test_a_chosen_model_that_is_damaged_is_trained_anew(tmp_path: Path, tiny_model: str) -> None:
    """The step that was chosen may lie before the newest checkpoint, and is not there to be taken again."""
    config = RunConfig.model_validate(settings_of(tmp_path, tiny_model, targets=6))
    plan = finished_run(config)
    (weights,) = (plan.artifacts["train"].folder / "model").glob("*.safetensors")
    content = weights.read_bytes()
    weights.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    assert repair(plan, verify(plan))["train"] == "all of it"
    again = finished_run(config)
    assert again.artifacts["train"].committed and not any(each.details for each in verify(again))
