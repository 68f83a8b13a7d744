"""Rounds: each is a run of its own from the last one's policy, and together they resume."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from rayflow.config import RunConfig, load_config
from rayflow.core.files import read_json
from rayflow.errors import ArtifactError, ConfigError
from rayflow.pipeline import commands
from rayflow.pipeline.rounds import round_config, round_configs
from rayflow.pipeline.run_plan import build_run_plan
from rayflow.pipeline.stored import open_plan
from tests.pipeline.helpers import tables


@pytest.fixture
def settings(settings: dict, tiny_model: str) -> dict:
    """The small run of these tests on a real tiny model, so that there is a policy to hand on."""
    return {
        **settings,
        "model": tiny_model,
        "prompts": {**settings["prompts"], "evaluation": {**settings["prompts"]["train"], "limit": 3}},
        "train": {"batch_size": 4, "learning_rate": 1e-3, "precision": "float32"},
        "reference": {"precision": "float32"},
        "evaluate": {"num_samples": 1, "num_resamples": 50},
        "rounds": {"num": 2},
    }


def run(settings: dict, **rounds: Any) -> tuple[Path, str]:
    config = RunConfig.model_validate({**settings, "rounds": {**settings["rounds"], **rounds}})
    text = io.StringIO()
    commands.run(config, Console(file=text, width=150))
    return config.root, text.getvalue()


def stored(root: Path, number: int) -> RunConfig:
    return load_config(root / f"round-{number}" / "config.yaml")


def test_each_round_starts_from_the_policy_of_the_one_before(settings: dict, tiny_model: str) -> None:
    root, text = run(settings)
    first, second = stored(root, 1), stored(root, 2)
    trained = str(root / "round-1" / "07-train" / "model")
    assert (first.model, second.model) == (tiny_model, trained)
    assert second.sample.model == second.reference.model == trained
    assert second.evaluate.baseline_model == tiny_model
    summary = read_json(root / "summary.json")
    assert [each["round"] for each in summary["rounds"]] == [1, 2]
    assert "round 2: win rate" in text


def test_the_reference_may_stay_the_original(settings: dict, tiny_model: str) -> None:
    root, _ = run(settings, reference="original")
    assert stored(root, 2).reference.model == tiny_model
    assert stored(root, 2).sample.model != tiny_model


def test_a_round_without_resampling_learns_from_the_same_files(settings: dict) -> None:
    root, _ = run(settings, resample=False, overrides=[{}, {"select.num_accepted": 2}])
    for stage in ("02-sample", "03-score"):
        shards = [sorted((root / f"round-{i}" / stage / "shards").glob("*.parquet")) for i in (1, 2)]
        assert [p.name for p in shards[0]] == [p.name for p in shards[1]] != []
    assert (stored(root, 1).select.num_accepted, stored(root, 2).select.num_accepted) == (4, 2)


def test_a_second_call_computes_nothing(settings: dict) -> None:
    root, _ = run(settings)
    before = {path: path.stat().st_mtime_ns for path in root.rglob("manifest.json")}
    assert len(before) == 2 * 13
    run(settings)
    assert {path: path.stat().st_mtime_ns for path in root.rglob("manifest.json")} == before


def test_overrides_must_name_settings_that_exist(settings: dict) -> None:
    with pytest.raises(ConfigError, match=r"select\.num_acepted: unknown key"):
        run(settings, overrides=[{"select.num_acepted": 2}])
    with pytest.raises(ConfigError, match=r"select\.num_acepted: unknown key"):
        run(settings, overrides=[{}, {"select.num_acepted": 2}])
    with pytest.raises(ConfigError, match="trains on pairs, and this run makes none"):
        run(settings, overrides=[{}, {"pair": "none"}])
    assert not Path(settings["runs_dir"]).exists()  # the first round has not begun
    with pytest.raises(ValueError, match="3 entries for 2 rounds"):
        run(settings, overrides=[{}, {}, {}])


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        (
            [{}, {"sample.temperature": 1.0}],
            "would change sample in round 2 .*sample.temperature: stored 0.7, now 1.0",
        ),
        ([{"seed": 9}, {}], "would change sample in round 2 .*stored 9, now 3"),
        ([{}, {"prompts": {"train": {"limit": 2}}}], "would change prompts in round 2 "),
        ([{}, {"name": "foo"}], "rounds.overrides of round 2 sets 'name', which is the run's"),
        ([{"compute.shard_size": 2}], "rounds.overrides of round 1 sets 'compute.shard_size'"),
        ([{"rounds": {"num": 3}}], "rounds.overrides of round 1 sets 'rounds'"),
    ],
)
def test_a_round_that_cannot_work_is_refused_before_the_first(
    settings: dict, overrides: list[dict[str, Any]], said: str
) -> None:
    rounds = {"num": 2, "resample": False, "overrides": overrides}
    with pytest.raises(ConfigError, match=said):
        commands.run(
            RunConfig.model_validate({**settings, "rounds": rounds}), Console(quiet=True), dry_run=True
        )


def test_rounds_that_share_their_samples_may_differ_in_the_rest(settings: dict) -> None:
    both = {"sample.temperature": 1.0}
    rounds = {"num": 2, "resample": False, "overrides": [both, {**both, "select.num_accepted": 2}]}
    commands.run(RunConfig.model_validate({**settings, "rounds": rounds}), Console(quiet=True), dry_run=True)


def test_a_block_of_a_rounds_overrides_leaves_the_rest_of_the_block_as_it_is(settings: dict) -> None:
    rounds = {"num": 2, "overrides": [{}, {"train": {"learning_rate": 1.0e-7}}]}
    config = RunConfig.model_validate({**settings, "rounds": rounds})
    later = round_config(config, 2, settings["model"]).train
    assert later == config.train.model_copy(update={"learning_rate": 1.0e-7})
    assert (later.batch_size, later.precision) == (4, "float32")


def test_a_single_round_has_its_overrides_too(settings: dict) -> None:
    root, _ = run(settings, num=1, overrides=[{"select.num_accepted": 2}])
    assert load_config(root / "config.yaml").select.num_accepted == 2


@pytest.mark.parametrize(
    ("sampler", "rounds", "refused"),
    [
        (None, {}, None),
        (None, {"resample": False, "reference": "original"}, None),
        (None, {"num": 1, "reference": "original"}, None),
        (None, {"reference": "original"}, "the previous round's policy samples and the first round's is"),
        (None, {"resample": False}, "the first round's samples and the previous round's policy is"),
        ("itself", {}, "the first round's samples and the previous round's policy is"),
        ("itself", {"reference": "original"}, None),
    ],
)
def test_the_samplers_log_probs_are_refused_where_a_later_reference_is_another_policy(
    settings: dict, sampler: str | None, rounds: dict[str, Any], refused: str | None
) -> None:
    """At once, not when the first round has been trained."""
    settings |= {"reference": {"source": "sampler"}, "rounds": {**settings["rounds"], **rounds}}
    settings["sample"] = {**settings["sample"], "model": sampler and settings["model"]}
    if refused is None:
        # The configurations of all rounds are made, and checked, before anything is trained.
        made = list(round_configs(RunConfig.model_validate(settings)))
        assert [each.reference.source for each in made] == ["sampler"] * settings["rounds"]["num"]
        return
    with pytest.raises(ValueError, match=refused):
        RunConfig.model_validate(settings)


def test_a_dry_run_shows_the_first_round(settings: dict) -> None:
    config = RunConfig.model_validate(settings)
    text = io.StringIO()
    commands.run(config, Console(file=text, width=150), dry_run=True)
    assert "round-1" in text.getvalue()
    assert "Round 1 of 2. The others were checked too" in text.getvalue()
    assert not config.root.exists()


def test_each_round_draws_with_numbers_of_its_own(settings: dict) -> None:
    """From equal seeds a policy that has hardly changed would draw nearly the same texts again."""
    settings = {**settings, "train": {**settings["train"], "learning_rate": 1e-12}}
    root, _ = run(settings)
    first, second = stored(root, 1), stored(root, 2)
    assert first.seed == settings["seed"] != second.seed
    plans = [build_run_plan(each) for each in (first, second)]
    drawn = [[text for row in tables(plan)["sample"] for text in row["responses"]] for plan in plans]
    assert sum(a == b for a, b in zip(*drawn, strict=True)) < len(drawn[0]) / 2
    root, _ = run({**settings, "name": "shared"}, resample=False)
    assert stored(root, 2).seed == settings["seed"]


def test_commands_on_a_run_in_rounds_name_one_of_them(settings: dict) -> None:
    root, _ = run(settings)
    with pytest.raises(ArtifactError, match="holds a run in rounds: name one of them, such as .*round-2"):
        open_plan(root)


def test_a_new_selection_has_the_baseline_s_answers_already(settings: dict) -> None:
    root, _ = run({**settings, "rounds": {}}, num=1)
    commands.reselect(root, ["select.beta=1.5"], "again", Console(quiet=True))
    made = {path.parent.name for path in root.with_name("again").glob("*/manifest.json")}
    baseline = {"08-eval-prompts", "09-eval-sample-sft", "10-eval-score-sft"}
    assert made == {"01-prompts", "02-sample", "03-score", "04-select", "05-pair", *baseline}
