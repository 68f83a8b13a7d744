"""What is set and read by nothing is said, and no more than that."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from rayflow.config import RunConfig, load_config
from rayflow.pipeline import commands
from rayflow.pipeline.unread import unread_settings

PROMPTS = {"path": "held-out.jsonl"}
GIVEN = {"source": "direct", "select": None, "pair": None}
EVALUATED = {**GIVEN, "prompts": {"evaluation": PROMPTS}}


def changed(settings: dict, more: dict[str, Any]) -> RunConfig:
    """With `more` in it, block by block."""
    return RunConfig.model_validate(
        {**settings, **{key: _changed(settings.get(key), more[key]) for key in more}}
    )


def _changed(old: Any, new: Any) -> Any:
    return {**(old or {}), **new} if isinstance(new, dict) else new


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
        (
            {"compute": {"sample": {"num_workers": 4}, "address": "auto"}, "train": {"zero_stage": 3}},
            "to set compute.sample.num_workers, compute.address, train.zero_stage=3. Set compute.runner=ray",
        ),
        (
            {"train": {"loss": "cross_entropy"}, "pair": {"kind": "tournament"}},
            "Loss 'cross_entropy' learns from no pairs",
        ),
        (
            {"select": {"max_resamples": 5}},
            "select.max_resamples is read with select.shortfall: resample alone",
        ),
        (GIVEN, "Nothing is sampled, whatever sample says: source 'direct'"),
        ({**EVALUATED, "sample": {"model": "other"}}, "sample.model draws what is learned from"),
        ({**EVALUATED, "score": "always"}, "score: always scores what was sampled"),
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
        {"compute": {"runner": "ray", "sample": {"num_workers": 4}}, "train": {"zero_stage": 3}},
        {"compute": {"train": {"num_workers": 2}}},
        {"train": {"loss": "cross_entropy"}, "pair": {"kind": "none"}},
        {"pair": {"kind": "tournament"}},
        {"select": {"max_resamples": 5, "shortfall": "resample"}},
        {"score": "always", "sample": {"model": "other"}},
        EVALUATED,
    ],
)
def test_what_is_read_is_not(settings: dict, more: dict[str, Any]) -> None:
    assert unread_settings(changed(settings, more)) == []


def test_a_stored_configuration_says_the_same(settings: dict) -> None:
    """It has every default written out, which is nothing that a person has set."""
    config = RunConfig.model_validate(settings)
    assert unread_settings(RunConfig.model_validate(config.model_dump(mode="json"))) == []


CONFIGS = sorted(Path("jobs/configs/methods").glob("*.yaml"))


@pytest.mark.parametrize("path", [Path("jobs/configs/quickstart.yaml"), *CONFIGS], ids=lambda path: path.stem)
def test_the_configurations_that_come_with_it_have_nothing_idle(path: Path) -> None:
    config = load_config(path)
    assert unread_settings(config) == []
    stored = RunConfig.model_validate(config.model_dump(mode="json"))
    assert unread_settings(stored) == []


def test_it_is_said_before_anything_begins(settings: dict) -> None:
    text = io.StringIO()
    config = changed(settings, {"rounds": {"resample": False}})
    commands.run(config, Console(file=text, width=200), dry_run=True)
    assert text.getvalue().startswith("There is one round")
