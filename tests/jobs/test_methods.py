"""Every ready method runs whole: the shipped configuration, on a tiny model, in this process."""

from __future__ import annotations

from pathlib import Path

import pytest
from rich.console import Console

from rayflow.config import RunConfig, load_config
from rayflow.core.files import read_json
from rayflow.pipeline import commands
from rayflow.pipeline.plan import build_plan

ROOT = Path(__file__).parents[2]
METHODS = sorted((ROOT / "jobs" / "configs" / "methods").glob("*.yaml"))


def small(path: Path, model: str, runs_dir: Path) -> RunConfig:
    """The configuration as it is shipped, with less of everything and a tiny model."""
    shipped = load_config(path)
    settings = {
        "runs_dir": runs_dir,
        "model": model,
        "prompts.train.limit": 4,
        "prompts.evaluation.limit": 3,
        "sample.engine": "{kind: transformers, dtype: float32}",
        "sample.num_candidates": min(shipped.sample.num_candidates, 8),
        "sample.max_tokens": 6,
        "train.batch_size": 2,
        "train.precision": "float32",
        "train.learning_rate": 1e-3,
        "reference.precision": "float32",
        "evaluate.num_samples": 1,
        "compute.runner": "local",
        "reward.function": "tests.jobs.test_methods:length",
    }
    if hasattr(shipped.select, "num_accepted"):
        settings["select.num_accepted"] = min(shipped.select.num_accepted, 4)
    return load_config(path, [f"{key}={value}" for key, value in settings.items()])


def length(prompt: str, response: str) -> float:
    """A reward that differs between any two responses of different length."""
    return float(len(response))


def test_there_are_methods():
    assert len(METHODS) >= 16


# Responses per prompt that the paper's own recipe decodes (RSO, arXiv:2309.06657, Table 7, and RS-DPO, section 4).
DECODES = {"rso": 64, "raft": 64, "raft-tournament": 64, "rest": 64, "slic-hf": 8, "lipo": 8, "rs-dpo": 16}


@pytest.mark.parametrize(("name", "decodes"), [*DECODES.items(), ("dpo", 0), ("slic", 0)])
def test_a_shipped_method_decodes_as_many_responses_as_its_paper(name: str, decodes: int) -> None:
    plan = build_plan(load_config(ROOT / "jobs" / "configs" / "methods" / f"{name}.yaml", ["model=fake"]))
    drawn = plan.stages["sample"].sampling.num_candidates if "sample" in plan.stages else 0
    assert drawn == decodes


@pytest.mark.parametrize("path", METHODS, ids=lambda path: path.stem)
def test_the_method_runs_from_its_prompts_to_its_report(path, tiny_model, tmp_path, monkeypatch):
    monkeypatch.chdir(ROOT)
    config = small(path, tiny_model, tmp_path)
    commands.run(config, Console(quiet=True))
    rounds = sorted(config.root.glob("round-*")) or [config.root]
    assert len(rounds) == config.rounds.num
    for folder in rounds:
        summary = read_json(folder / "summary.json")
        assert summary["missing"] == []
        assert summary["training"]["last_step"] >= 2
        assert 0 <= summary["evaluation"]["win_rate"] <= 1
        (weights,) = folder.glob("*-train/model/model.safetensors")
        assert weights.read_bytes() != (Path(tiny_model) / "model.safetensors").read_bytes()
