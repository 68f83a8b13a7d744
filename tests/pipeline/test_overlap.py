"""Prompts that are called held out and were trained on: the report counts them, by what they say."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

from rich.console import Console

from rayflow.config import RunConfig
from rayflow.core.files import read_json
from rayflow.pipeline import commands
from rayflow.pipeline.execute import Pipeline
from rayflow.pipeline.plan import Plan
from rayflow.pipeline.report import collect
from rayflow.pipeline.run_plan import build_run_plan
from rayflow.pipeline.runner import LocalRunner


def written(path: Path, rows: list[dict[str, Any]]) -> dict[str, str]:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return {"path": str(path)}


def notes(settings: dict, **changes: Any) -> list[str]:
    """What the report remarks once all prompts are read."""
    config = RunConfig.model_validate({**settings, **changes})
    whole = build_run_plan(config)
    plan = Plan(config, tuple(step for step in whole.steps if step[0].name.endswith("prompts")))
    Pipeline(plan, LocalRunner(config.compute), Console(file=io.StringIO())).run()
    return [note for note in collect(plan).notes if "among the" in note]


def test_held_out_prompts_that_are_trained_on_are_counted(settings: dict, tmp_path: Path) -> None:
    rows = [{"prompt": f"Tell me of number {i}."} for i in (2, 7, 7, 99)]
    prompts = {**settings["prompts"], "evaluation": written(tmp_path / "held-out.jsonl", rows)}
    (note,) = notes(settings, prompts=prompts)
    assert note.startswith("2 of 3 held-out prompts are among the training prompts: ")
    assert note.endswith("Take them out of prompts.evaluation or of prompts.train.")


def test_a_file_that_is_held_out_has_no_remark(settings: dict, tmp_path: Path) -> None:
    evaluation = written(tmp_path / "held-out.jsonl", [{"prompt": "Something else."}])
    assert notes(settings, prompts={**settings["prompts"], "evaluation": evaluation}) == []
    assert notes(settings) == []


def test_prompts_are_known_whatever_responses_stand_beside_them(settings: dict, tmp_path: Path) -> None:
    """A row of preferences is named by its responses, too: the same prompt twice is two rows."""
    turns = [{"role": "user", "content": "Weather?"}]
    pairs = [{"prompt": turns, "chosen": "sun", "rejected": each} for each in ("rain", "snow")]
    data = {
        "train": written(tmp_path / "pairs.jsonl", [*pairs, {**pairs[0], "prompt": "Weather?"}]),
        "evaluation": written(
            tmp_path / "held-out.jsonl", [{"messages": turns, "target": "sun"}, {"prompt": "?"}]
        ),
    }
    kept = {key: settings[key] for key in ("name", "runs_dir", "model", "sample", "reward", "compute")}
    (note,) = notes(kept, source="direct", prompts=data)
    assert note.startswith("1 of 2 held-out prompts is among the training prompts: ")


def test_validation_prompts_are_compared_with_both(settings: dict, tmp_path: Path) -> None:
    one, two = ({"prompt": f"Tell me of number {i}.", "target": "It is."} for i in (1, 2))
    more = {
        "validation": written(tmp_path / "validation.jsonl", [one, {"prompt": "Else.", "target": "It is."}]),
        "evaluation": written(tmp_path / "held-out.jsonl", [one, two]),
    }
    found = notes(settings, prompts={**settings["prompts"], **more}, train={"choose": {"every_steps": 1}})
    assert [note.partition(":")[0] for note in found] == [
        "2 of 2 held-out prompts are among the training prompts",
        "1 of 2 held-out prompts is among the validation prompts",
        "1 of 2 validation prompts is among the training prompts",
    ]


def test_a_finished_run_does_not_claim_what_is_not_so(settings: dict, tiny_model: str) -> None:
    train = settings["prompts"]["train"]
    changes = {
        "model": tiny_model,
        "prompts": {"train": train, "evaluation": {**train, "limit": 3}},
        "train": {"batch_size": 4, "precision": "float32"},
        "reference": {"precision": "float32"},
        "evaluate": {"num_samples": 1, "num_resamples": 50},
    }
    config = RunConfig.model_validate({**settings, **changes})
    text = io.StringIO()
    commands.run(config, Console(file=text, width=500))
    assert "On 3 evaluation prompts (3 of them trained on) the trained model wins" in text.getvalue()
    page = (config.root / "report.html").read_text()
    assert "never saw" not in page and "did not use" not in page
    assert "3 of 3 held-out prompts are among the training prompts" in page
    assert any("among the training" in note for note in read_json(config.root / "summary.json")["notes"])
