"""Every ready reward model is trained whole: the shipped configuration, on a tiny model, in this process."""

from __future__ import annotations

from pathlib import Path

import pytest
from rich.console import Console

from rayflow.config import load_config
from rayflow.config.reward import RewardConfig
from rayflow.core.files import read_json
from rayflow.pipeline import commands

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("kind", ["classifier", "ranker"])
def test_the_shipped_configuration_runs_from_its_pairs_to_its_report(kind, tiny_model, tmp_path, monkeypatch):
    monkeypatch.chdir(ROOT)
    settings = {
        "runs_dir": tmp_path,
        "model": tiny_model,
        "train.num_epochs": 1,
        "train.precision": "float32",
        "compute.runner": "local",
    }
    overrides = [f"{key}={value}" for key, value in settings.items()]
    config = load_config(ROOT / f"jobs/configs/reward/{kind}.yaml", overrides, RewardConfig)
    commands.train_reward(config, Console(quiet=True))
    summary = read_json(config.root / "summary.json")
    assert summary["kind"] == kind
    assert summary["training"]["last_step"] >= 2
    held_out = summary["evaluation"]["num_pairs"]
    assert held_out >= 2 and held_out + summary["num_pairs"] == 16
    assert (Path(summary["trained"]) / "model.safetensors").exists()
