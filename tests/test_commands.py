"""`rayflow train-reward` and `rayflow evaluate` as they are typed: done, found stored, and made again by force."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.testing import CliRunner

from rayflow.cli.app import app
from tests.pipeline.evaluation_helpers import evaluation_settings
from tests.pipeline.reward_helpers import reward_settings, write_preferences


def rayflow(*arguments: object) -> str:
    result = CliRunner().invoke(
        app, [str(a) for a in arguments], catch_exceptions=False, env={"COLUMNS": "200"}
    )
    assert result.exit_code == 0, result.output
    return result.output


def written(folder: Path, settings: dict[str, Any]) -> Path:
    path = folder / "job.yaml"
    path.write_text(yaml.safe_dump(settings))
    return path


def begun(root: Path) -> dict[str, int]:
    """When each stage was finished last, by its folder's name."""
    return {path.parent.name: path.stat().st_mtime_ns for path in root.glob("*/manifest.json")}


def made_again(command: str, config: Path, root: Path, stage: str) -> set[str]:
    """The stages that a call with `--force-stage` makes again, after one without it that makes none."""
    before = begun(root)
    assert rayflow(command, config).count("stored") == len(before) > 1
    assert begun(root) == before
    rayflow(command, config, "--force-stage", stage)
    return {name.split("-", 1)[1] for name, time in begun(root).items() if time != before[name]}


def test_a_reward_is_trained_and_judged_anew_by_force(tmp_path: Path, tiny_model: str) -> None:
    data = write_preferences(tmp_path / "pairs.jsonl", num_prompts=24)
    settings = reward_settings(tmp_path, data, tiny_model, "classifier")
    settings["train"] = {**settings["train"], "num_epochs": 1}
    config, root = written(tmp_path, settings), tmp_path / "runs" / "classifier"
    rayflow("train-reward", config)
    assert json.loads((root / "summary.json").read_text())["evaluation"]["num_pairs"] > 0
    assert (root / "report.html").exists()
    assert made_again("train-reward", config, root, "evaluate") == {"evaluate"}


def test_a_policy_is_evaluated_and_measured_anew_by_force(
    tmp_path: Path, tiny_model: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = evaluation_settings(tmp_path, tiny_model, tiny_model)
    settings["sample"] |= {"engine": {"kind": "fake", "max_model_len": 256}, "num_candidates": 2}
    config, root = written(tmp_path, settings), tmp_path / "runs" / "small"
    rayflow("evaluate", config)
    assert json.loads((root / "summary.json").read_text())["side_by_side"]["threshold"] == 0.35
    assert (root / "report.html").exists()
    assert made_again("evaluate", config, root, "measure") == {"measure"}
