"""What is set and read by nothing is said, and no more than that."""

from __future__ import annotations

import io
from typing import Any

import pytest
from rich.console import Console

from rayflow.config import RunConfig
from rayflow.pipeline import commands
from rayflow.pipeline.unread import unread_settings

PROMPTS = {"path": "held-out.jsonl"}


def changed(settings: dict, more: dict[str, Any]) -> RunConfig:
    """With `more` in it, block by block."""
    return RunConfig.model_validate({**settings, **{key: settings.get(key, {}) | more[key] for key in more}})


@pytest.mark.parametrize(
    ("more", "told"),
    [
        ({"prompts": {"validation": PROMPTS}}, "prompts.validation is read by train.choose alone"),
        ({"evaluate": {"num_samples": 2}}, "set prompts.evaluation, or remove evaluate"),
        (
            {"train": {"loss": "cross_entropy"}, "reference": {"precision": "float32"}},
            "Loss 'cross_entropy' reads no reference log-probabilities",
        ),
        ({"rounds": {"resample": False}}, "Set rounds.num, or remove it"),
    ],
)
def test_a_block_that_nothing_reads_is_named(settings: dict, more: dict[str, Any], told: str) -> None:
    (found,) = unread_settings(changed(settings, more))
    assert told in found


@pytest.mark.parametrize(
    "more",
    [
        {},
        {"prompts": {"evaluation": PROMPTS}, "evaluate": {"num_samples": 2}},
        {"prompts": {"validation": PROMPTS}, "train": {"choose": {"every_steps": 1}}},
        {"reference": {"precision": "float32"}},
        {"rounds": {"num": 2, "resample": False}},
    ],
)
def test_what_is_read_is_not(settings: dict, more: dict[str, Any]) -> None:
    assert unread_settings(changed(settings, more)) == []


def test_a_stored_configuration_says_the_same(settings: dict) -> None:
    """It has every default written out, which is nothing that a person has set."""
    config = RunConfig.model_validate(settings)
    assert unread_settings(RunConfig.model_validate(config.model_dump(mode="json"))) == []


def test_it_is_said_before_anything_begins(settings: dict) -> None:
    text = io.StringIO()
    config = changed(settings, {"rounds": {"resample": False}})
    commands.run(config, Console(file=text, width=200), dry_run=True)
    assert text.getvalue().startswith("There is one round")
