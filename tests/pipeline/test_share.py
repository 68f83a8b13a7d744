"""What a new selection takes over from the run that it selects from."""

from __future__ import annotations

import io
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml
from rich.console import Console

from rayflow.config import RunConfig
from rayflow.core.rows import Sampled
from rayflow.core.schema import to_table
from rayflow.errors import ConfigError
from rayflow.pipeline import commands
from rayflow.pipeline.folders import stored_config
from rayflow.pipeline.placement import check_this_machine
from rayflow.pipeline.plan import Plan
from rayflow.pipeline.reselect import reselected
from rayflow.pipeline.run_plan import build_run_plan
from rayflow.pipeline.share import Shelf, same_making
from tests.pipeline.conftest import cheerful
from tests.pipeline.helpers import data_plan, run_data, tables


@pytest.fixture
def evaluated(settings: dict) -> Plan:
    """A run up to the pairs, with held-out prompts whose answers are stored for both sides."""
    settings["prompts"]["evaluation"] = settings["prompts"]["train"]
    plan = build_run_plan(RunConfig.model_validate(settings))
    run_data(plan.config)
    for name in ("eval-prompts", "eval-sample-sft", "eval-sample-policy"):
        artifact = plan.artifacts[name]
        artifact.begin(plan.identities[name], num_shards=1)
        artifact.shards.write(0, to_table([], Sampled))
        artifact.commit(0.0, 1.0)
    return plan


def test_a_policys_answers_stay_with_the_run_that_trained_it(evaluated: Plan) -> None:
    """Where a setting of the training changes nothing but its place, its stages are called the same."""
    again = reselected(evaluated, ["train.zero_stage=2"], "again")
    assert again.identities["eval-sample-policy"] == evaluated.identities["eval-sample-policy"]
    stored = {name for name, artifact in again.artifacts.items() if artifact.committed}
    assert {"sample", "score", "select", "pair", "eval-prompts", "eval-sample-sft"} <= stored
    assert "eval-sample-policy" not in stored


kindness = 1.0
"""What `changing` thinks of a kind word: its code, so to speak, which no fingerprint holds."""


def changing(prompt: str, response: str) -> float:
    """A reward whose code changes between two runs."""
    return kindness * cheerful(prompt, response)


@pytest.fixture
def another_reward(monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """Changes the code of `changing`."""
    return lambda: monkeypatch.setattr(sys.modules[__name__], "kindness", -1.0)


@pytest.fixture
def changeable(settings: dict) -> RunConfig:
    settings["reward"]["function"] = "tests.pipeline.test_share:changing"
    return RunConfig.model_validate(settings)


def test_a_selection_from_former_scores_is_not_given_to_a_run_with_new_ones(
    changeable: RunConfig, another_reward: Callable[[], None]
) -> None:
    first = changeable.model_copy(update={"name": "first"})
    run_data(first)
    shelf = Shelf()
    shelf.add(first.root)
    same = data_plan(changeable.model_copy(update={"name": "same"}))
    assert shelf.fill(same) == ["prompts", "sample", "score", "select", "pair"]

    another_reward()
    shared, _ = run_data(changeable, force=("score",))
    for stage in ("select", "pair"):  # what is left is what the first run has, of another scoring
        shared.artifacts[stage].set_aside()
    of_both = Shelf()
    of_both.add(changeable.root)
    of_both.add(first.root)
    third = data_plan(changeable.model_copy(update={"name": "third"}))
    assert of_both.fill(third) == ["prompts", "sample", "score"]
    assert same_making(third.artifacts["score"], shared.artifacts["score"])


def test_selecting_again_after_a_new_scoring_selects_from_the_new_scores(
    changeable: RunConfig, another_reward: Callable[[], None]
) -> None:
    def chosen() -> list[list[int]]:
        quiet = Console(file=io.StringIO())
        commands.reselect(changeable.root, ["select.beta=0.01"], "again", quiet)
        plan = build_run_plan(stored_config(changeable.root.parent / "again", RunConfig))
        return [row["accepted"] for row in tables(data_plan(plan.config))["select"]]

    run_data(changeable)
    before = chosen()
    assert chosen() == before
    another_reward()
    run_data(changeable, force=("score",))
    after = chosen()
    assert after != before
    assert chosen() == after


def test_selecting_again_needs_no_gpu_that_sampling_had(config: RunConfig) -> None:
    run_data(config)
    stored = yaml.safe_load((config.root / "config.yaml").read_text())
    for stage in ("sample", "score"):
        stored["compute"][stage]["num_gpus"] = 1
    (config.root / "config.yaml").write_text(yaml.safe_dump(stored))
    commands.reselect(config.root, ["select.beta=0.5"], "again", Console(file=io.StringIO()))
    assert (config.root.parent / "again" / "05-pair" / "manifest.json").exists()


def test_a_machine_need_not_hold_the_workers_of_stored_stages(
    settings: dict, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    monkeypatch.setattr("rayflow.pipeline.placement.num_gpus", lambda: 0)
    run_data(RunConfig.model_validate(settings))
    on_gpus = {"runner": "ray", "shard_size": 4, "sample": {"num_gpus": 1}}
    plan = build_run_plan(RunConfig.model_validate({**settings, "compute": on_gpus}))
    check_this_machine(plan, ["sample", "select"])
    with pytest.raises(ConfigError, match="'sample' cannot be placed"):
        check_this_machine(plan, ["sample", "select"], redo=["sample"])
    shutil.rmtree(Path(plan.artifacts["sample"].folder))
    with pytest.raises(ConfigError, match="'sample' cannot be placed"):
        check_this_machine(plan, ["sample", "select"])
