"""A small run with the fake engine, so that the pipeline's own behaviour is tested in milliseconds."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from rayflow.config import RunConfig

NUM_PROMPTS = 10


def cheerful(prompt: str, response: str) -> float:
    """A rule reward for tests: how often the response says a kind word; its length, a little, against ties."""
    words = response.split()
    kind = sum(word.strip(".,!") in {"good", "great", "lovely", "happy"} for word in words)
    return kind / max(1, len(words)) + len(response) / 1000


def not_a_number(prompt: str, response: str) -> float:
    """A broken reward: NaN for one prompt, fine for the others."""
    return float("nan") if "number 3" in prompt else cheerful(prompt, response)


def raises(prompt: str, response: str) -> float:
    """A broken reward: raises for one prompt."""
    if "number 3" in prompt:
        raise ZeroDivisionError("no words")
    return cheerful(prompt, response)


def even(prompt: str, response: str) -> float:
    """A reward that tells nothing: every pair is tied."""
    return 1.0


@pytest.fixture
def prompt_file(tmp_path: Path) -> Path:
    """Ten plain prompts as JSON lines."""
    path = tmp_path / "prompts.jsonl"
    path.write_text(
        "".join(json.dumps({"prompt": f"Tell me of number {i}."}) + "\n" for i in range(NUM_PROMPTS))
    )
    return path


@pytest.fixture
def settings(tmp_path: Path, prompt_file: Path) -> dict:
    """A configuration as a person would write it: fake engine, local runner, no evaluation."""
    return {
        "name": "small",
        "runs_dir": str(tmp_path / "runs"),
        "seed": 3,
        "model": "fake",
        "prompts": {"train": {"path": str(prompt_file)}},
        "sample": {"engine": {"kind": "fake"}, "num_candidates": 16, "max_tokens": 12},
        "reward": {"kind": "rule", "function": "tests.pipeline.conftest:cheerful"},
        "select": {"beta": 0.1, "num_accepted": 4},
        "compute": {"runner": "local", "shard_size": 4},
    }


@pytest.fixture
def config(settings: dict) -> RunConfig:
    """The same, checked."""
    return RunConfig.model_validate(settings)
