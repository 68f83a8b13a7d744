"""A small evaluation that needs no network: tiny models that really sample, and a scripted judge."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

from rich.console import Console

from rayflow.config.evaluate import EvaluateConfig
from rayflow.core.options import KindOptions
from rayflow.errors import DataError
from rayflow.pipeline import commands
from rayflow.pipeline.evaluation_plan import build_evaluation_plan
from rayflow.pipeline.plan import Plan

NUM_PROMPTS = 8


class Scripted:
    """A judge that prefers the longer response, whose last answer holds no verdict, and that fails on one prompt."""

    class Config(KindOptions):
        kind: str = "tests.pipeline.evaluation_helpers:Scripted"
        first_always: bool = False

    models = ()
    asked: list[str] = []

    def __init__(self, options: Config) -> None:
        self.options = options

    def setup(self) -> None:
        pass

    async def answers(self, text: str, num: int, sampling: Any, seed: int) -> tuple[str, ...]:
        Scripted.asked.append(text)
        if "number 3" in text.rpartition("Now compare")[2]:
            raise DataError("longer than the context")
        shown = text.rpartition("Response A:")[2]
        first, _, second = shown.rpartition("Explanation:")[0].partition("Response B:")
        longer = len(first.strip()) - len(second.strip())
        letter = "A" if self.options.first_always or longer > 0 else "B" if longer < 0 else "same"
        return (*(f"They differ.\nVerdict: {letter}" for _ in range(num - 1)), "no idea")

    def close(self) -> None:
        pass


def write_prompts(path: Path) -> Path:
    """Prompts with targets."""
    rows = [
        {"prompt": f"Tell me of number {i}.", "target": f"A good and great story of {i}."}
        for i in range(NUM_PROMPTS)
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def evaluation_settings(folder: Path, sft: str, policy: str) -> dict[str, Any]:
    """A configuration as a person would write it."""
    cheerful = {"kind": "rule", "function": "tests.pipeline.conftest:cheerful"}
    return {
        "name": "small",
        "runs_dir": str(folder / "runs"),
        "seed": 3,
        "model": sft,
        "policy": policy,
        "prompts": {"path": str(write_prompts(folder / "prompts.jsonl"))},
        "sample": {
            "engine": {"kind": "transformers", "dtype": "float32"},
            "num_candidates": 4,
            "max_tokens": 12,
        },
        "rewards": {"proxy": cheerful, "gold": {"kind": "tests.pipeline.judges:Counting"}},
        "side_by_side": {"judge": {"kind": "tests.pipeline.evaluation_helpers:Scripted"}},
        "interval": {"num_resamples": 200},
        "max_failed_fraction": 0.2,
        "compute": {"runner": "local", "shard_size": 4},
    }


def evaluated(settings: dict[str, Any], force: tuple[str, ...] = ()) -> tuple[Plan, str]:
    """Run it; returns the plan and what was printed."""
    config, text = EvaluateConfig.model_validate(settings), io.StringIO()
    commands.evaluate(config, Console(file=text, width=200), force)
    return build_evaluation_plan(config), text.getvalue()


def summary_of(plan: Plan) -> dict[str, Any]:
    """What the report's summary holds."""
    return json.loads((plan.config.root / "summary.json").read_text())
