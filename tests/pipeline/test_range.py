"""A rule that scales by all rewards of the run: measured once they are there, then one prompt at a time."""

from __future__ import annotations

import pytest
from rich.console import Console

from rayflow.config import RunConfig
from rayflow.errors import ArtifactError, ConfigError
from rayflow.pipeline import commands
from rayflow.pipeline.artifact import Artifact
from rayflow.pipeline.plan import Plan
from tests.pipeline.helpers import run_data, tables

MEASURED = {"kind": "threshold", "scale": "global", "threshold": 0.5}


def with_rule(settings: dict, rule: dict, **changes: object) -> RunConfig:
    return RunConfig.model_validate({**settings, "select": rule, "max_failed_fraction": 1.0, **changes})


def accepted(plan: Plan) -> dict[str, list[int]]:
    return {row["prompt_id"]: row["accepted"] for row in tables(plan)["select"]}


def test_the_range_is_that_of_all_prompts_and_selects_as_typed_numbers_do(settings: dict) -> None:
    plan, _ = run_data(with_rule(settings, MEASURED))
    rewards = {row["prompt_id"]: row["rewards"] for row in tables(plan)["score"]}
    low, high = min(map(min, rewards.values())), max(map(max, rewards.values()))
    assert plan.artifacts["range"].manifest().extra == {"low": low, "high": high}
    assert plan.stages["select"].range_at == plan.artifacts["range"].folder
    above = {
        key: [i for i, reward in enumerate(row) if (reward - low) / (high - low) > 0.5]
        for key, row in rewards.items()
    }
    assert accepted(plan) == {key: kept for key, kept in above.items() if kept}
    assert len({max(row) for row in rewards.values()}) > 1  # by its own range each prompt would keep its best
    typed, _ = run_data(with_rule(settings, {**MEASURED, "low": low, "high": high}, name="typed"))
    assert "range" not in typed.stages and accepted(typed) == accepted(plan)


def test_the_outcome_depends_neither_on_shards_nor_on_where_a_run_was_stopped(
    settings: dict, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, _ = run_data(with_rule(settings, MEASURED))
    other = with_rule(settings, MEASURED, name="other", compute={"runner": "local", "shard_size": 3})
    real = Artifact.commit
    for stage in ("range", "score"):  # killed after the work of a stage, before its manifest

        def dies(self: Artifact, *arguments: object, at: str = stage) -> object:
            if self.name == at:
                raise KeyboardInterrupt
            return real(self, *arguments)

        monkeypatch.setattr(Artifact, "commit", dies)
        with pytest.raises(KeyboardInterrupt):
            run_data(other, force=("score",) if stage == "score" else ())
        monkeypatch.setattr(Artifact, "commit", real)
    plan, _ = run_data(other)
    assert accepted(plan) == accepted(whole)


def test_equal_rewards_are_all_the_best(settings: dict) -> None:
    settings["reward"]["function"] = "tests.pipeline.test_range:same"
    plan, _ = run_data(with_rule(settings, MEASURED))
    assert set(map(len, accepted(plan).values())) == {16}


def same(prompt: str, response: str) -> float:
    return 1.0


def test_selecting_again_measures_again(settings: dict) -> None:
    plan, _ = run_data(RunConfig.model_validate(settings))
    console = Console(quiet=True)
    changes = ["select={kind: threshold, scale: global, threshold: 0.5}", "max_failed_fraction=1"]
    commands.reselect(plan.config.root, changes, "again", console)
    direct, _ = run_data(with_rule(settings, MEASURED, name="direct"))
    again = Artifact(plan.config.root.parent / "again" / "05-select")
    rows = [row for i in range(again.num_shards) for row in again.shards.read(i).to_pylist()]
    assert {row["prompt_id"]: row["accepted"] for row in rows} == accepted(direct)


def test_a_higher_threshold_later_is_another_selection(settings: dict) -> None:
    run_data(with_rule(settings, MEASURED))
    with pytest.raises((ArtifactError, ConfigError), match="select.threshold: stored 0.5, now 0.9"):
        run_data(with_rule(settings, {**MEASURED, "threshold": 0.9}))
