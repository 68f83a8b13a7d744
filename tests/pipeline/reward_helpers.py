"""A small preference file whose better responses a tiny model can learn to tell, and its configuration."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

GOOD, BAD = ("wonderful", "great", "joy"), ("terrible", "awful", "dull")
FILLER = ("the film", "story", "acting", "play", "review", "start to finish")


def write_preferences(path: Path, num_prompts: int, pairs_each: int = 1, seed: int = 0) -> Path:
    """Pairs that differ in a kind or an unkind word among fillers; lengths say nothing."""
    rng = np.random.default_rng(seed)

    def response(words: tuple[str, ...]) -> str:
        text = [str(rng.choice(FILLER)) for _ in range(int(rng.integers(2, 7)))]
        text.insert(int(rng.integers(0, len(text))), str(rng.choice(words)))
        return " ".join(text)

    with path.open("w") as file:
        for number in range(num_prompts):
            for _ in range(pairs_each):
                row = {"prompt": f"write review {seed} {number}:", "chosen": f" {response(GOOD)}"}
                file.write(json.dumps({**row, "rejected": f" {response(BAD)}"}) + "\n")
    return path


def reward_settings(folder: Path, data: Path, model: str, kind: str) -> dict[str, Any]:
    """A configuration as a person would write it: local runner, float32, a tenth of the prompts held out."""
    return {
        "name": kind,
        "runs_dir": str(folder / "runs"),
        "seed": 1,
        "model": model,
        "kind": kind,
        "data": {"train": {"path": str(data)}, "holdout_fraction": 0.25},
        "train": {
            "precision": "float32",
            "num_epochs": 3,
            "batch_size": 16,
            "learning_rate": 1e-3,
            "micro_batch_tokens": 1500,
            "checkpoint_every_steps": 10,
        },
        "evaluate": {"num_resamples": 500},
        "compute": {"runner": "local", "shard_size": 32},
    }
