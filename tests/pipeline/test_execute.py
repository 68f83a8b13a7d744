"""A run of the data stages: what it stores, what it skips, what it refuses."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rayflow.config import RunConfig, load_config
from rayflow.core.files import read_json
from rayflow.errors import ArtifactError, ConfigError, DataError, ModelError, StageError
from rayflow.pipeline.artifact import Artifact
from rayflow.pipeline.execute import covered, open_run
from rayflow.pipeline.reselect import reselected
from rayflow.pipeline.run_plan import build_run_plan
from rayflow.pipeline.runner import LocalRunner
from rayflow.pipeline.stage import ShardWorker
from rayflow.pipeline.stored import open_any
from tests.pipeline.conftest import NUM_PROMPTS
from tests.pipeline.helpers import DATA_STAGES, data_plan, run_data, tables, with_settings


def test_every_stage_holds_every_prompt_once(config: RunConfig) -> None:
    plan, _ = run_data(config)
    stored = tables(plan)
    ids = [row["prompt_id"] for row in stored["prompts"]]
    assert len(set(ids)) == NUM_PROMPTS
    for name in DATA_STAGES:
        assert [row["prompt_id"] for row in stored[name]] == ids
    assert all(len(row["responses"]) == 16 for row in stored["sample"])
    assert all(len(row["accepted"]) == 4 for row in stored["select"])
    assert plan.artifacts["sample"].manifest().num_tokens > 0


def test_a_second_run_computes_nothing(config: RunConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    run_data(config)

    async def refuse(self: ShardWorker, index: int) -> None:
        raise AssertionError("a committed stage was computed again")

    monkeypatch.setattr(ShardWorker, "run", refuse)
    _, text = run_data(config)
    assert text.count("stored") == len(DATA_STAGES)


def test_a_stopped_run_redoes_only_what_was_in_flight(
    config: RunConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, _ = run_data(config.model_copy(update={"name": "whole"}))
    real, computed = ShardWorker.run, []

    async def dies_in_second_score_shard(self: ShardWorker, index: int) -> None:
        if self.stage.name == "score" and index == 1 and "died" not in computed:
            computed.append("died")
            raise KeyboardInterrupt
        await real(self, index)
        computed.append((self.stage.name, index))

    monkeypatch.setattr(ShardWorker, "run", dies_in_second_score_shard)
    with pytest.raises(KeyboardInterrupt):
        run_data(config)
    first = data_plan(config).artifacts["sample"].shards.marker(0)
    plan, _ = run_data(config)
    assert plan.artifacts["sample"].shards.marker(0) == first
    assert computed.count(("score", 0)) == 1 and computed.count(("score", 1)) == 1
    assert tables(plan) == tables(whole)


def test_a_kill_before_the_stages_own_commits_leaves_nothing_to_run(config: RunConfig) -> None:
    plan, _ = run_data(config)
    before = tables(plan)
    for name in ("score", "select", "pair"):
        plan.artifacts[name].forget(())

    class Idle(LocalRunner):
        def run_shards(self, workers, shards, check) -> None:
            raise AssertionError("nothing is left to compute")

    again, _ = run_data(config, runner=Idle(config.compute))
    assert tables(again) == before


def test_results_depend_on_neither_shards_nor_seeds_of_others(config: RunConfig) -> None:
    first, _ = run_data(config)
    compute = config.compute.model_copy(update={"shard_size": 3})
    second, _ = run_data(config.model_copy(update={"name": "other-shards", "compute": compute}))
    assert tables(first) == tables(second)
    third, _ = run_data(config.model_copy(update={"name": "other-seed", "seed": 4}))
    assert tables(first)["sample"] != tables(third)["sample"]


def test_a_changed_field_is_named(settings: dict) -> None:
    run_data(with_settings(settings))
    changed = with_settings(settings, select={"beta": 0.7, "num_accepted": 4})
    with pytest.raises(
        ArtifactError, match=r"select\.beta: stored 0\.1, now 0\.7[\s\S]*--force-stage select"
    ):
        run_data(changed)
    assert load_config(changed.root / "config.yaml").select.beta == 0.1


def test_what_comes_after_the_scores_is_tried_on_stored_samples(settings: dict) -> None:
    """A new name alone would sample and score again."""
    plan, _ = run_data(with_settings(settings))
    for changes, kept in (({"select": {"beta": 0.7, "num_accepted": 4}}, True), ({"seed": 9}, False)):
        with pytest.raises(ArtifactError) as told:
            run_data(with_settings(settings, **changes))
        assert (f"rayflow select {plan.config.root} --name NEW --set" in str(told.value)) == kept


def test_a_forced_stage_takes_what_follows_with_it_and_keeps_the_old(settings: dict) -> None:
    first, _ = run_data(with_settings(settings))
    marker = first.artifacts["score"].shards.marker(0)
    changed = with_settings(settings, select={"beta": 0.7, "num_accepted": 3})
    plan, text = run_data(changed, force=("select",))
    assert plan.artifacts["score"].shards.marker(0) == marker
    assert text.count("stored") == 3
    assert all(len(row["accepted"]) == 3 for row in tables(plan)["select"])
    assert len(list((plan.config.root / ".replaced").iterdir())) == 2
    with pytest.raises(ConfigError, match="Unknown stage 'selct'"):
        run_data(changed, force=("selct",))
    with pytest.raises(ArtifactError, match="seed: stored 3, now 9"):  # an earlier stage does not fit either
        run_data(changed.model_copy(update={"seed": 9}), force=("select",))
    assert plan.artifacts["select"].committed


@pytest.mark.parametrize("name", ["2026-11-20", "2024", "on", "1e3"])
def test_a_name_that_yaml_would_take_for_something_else_is_a_name(settings: dict, name: str) -> None:
    folder = Path(settings["runs_dir"]) / "of a # and a: b"
    plan, _ = run_data(with_settings(settings, runs_dir=str(folder), name=name))
    assert open_any(folder / name).config.root.absolute() == plan.config.root.absolute()
    assert all(each.artifacts[x].committed for each in [open_any(folder / name)] for x in DATA_STAGES)
    again = reselected(data_plan(plan.config), ["select.kind=tests.pipeline.test_select:Picky"], None)
    assert again.config.root.parent == folder and again.config.name.startswith(f"{name}-select-kind-tests-")


def test_more_machines_are_not_another_run(settings: dict) -> None:
    run_data(with_settings(settings))
    wider = {"runner": "local", "sample": {"num_workers": 7, "num_cpus": 3, "in_flight": 9}}
    _, text = run_data(with_settings(settings, compute=wider))
    assert text.count("stored") == len(DATA_STAGES)


@pytest.mark.parametrize(
    "function, reason", [("not_a_number", "reward is not finite"), ("raises", "reward failed")]
)
def test_a_failing_reward_is_a_counted_row_and_no_zero(settings: dict, function: str, reason: str) -> None:
    reward = {"kind": "rule", "function": f"tests.pipeline.conftest:{function}"}
    plan, text = run_data(with_settings(settings, reward=reward, max_failed_fraction=0.2))
    stored = tables(plan)
    assert len(stored["score"]) == len(stored["pair"]) == NUM_PROMPTS - 1
    failures = list(plan.artifacts["score"].shards.failures())
    assert [failure.reason for failure in failures] == [reason]
    lost = {row["prompt_id"] for row in stored["prompts"]} - {row["prompt_id"] for row in stored["score"]}
    assert lost == {failures[0].prompt_id}
    written = (plan.artifacts["score"].folder / "failures.jsonl").read_text()
    assert json.loads(written)["reason"] == reason
    assert "1 failed" in text


def test_too_many_failures_stop_the_stage_with_reasons(settings: dict) -> None:
    reward = {"kind": "rule", "function": "tests.pipeline.conftest:raises"}
    with pytest.raises(
        StageError, match=r"Stage score: 1 of 10 rows failed[\s\S]*reward failed \(1\)[\s\S]*no words"
    ):
        run_data(with_settings(settings, reward=reward, max_failed_fraction=0.01))


def test_too_many_refused_prompts_stop_every_call_until_they_are_allowed(
    settings: dict, prompt_file: Path
) -> None:
    with open(prompt_file, "a") as file:
        file.write('{"prompt": ""}\n' * NUM_PROMPTS)
    for _ in range(2):
        with pytest.raises(StageError, match="Stage prompts: 10 of 20 rows failed"):
            run_data(with_settings(settings))
    plan, _ = run_data(with_settings(settings, max_failed_fraction=0.5))
    assert len(tables(plan)["pair"]) == NUM_PROMPTS


def test_a_kill_while_stages_are_set_aside_leaves_none_that_is_out_of_date(
    settings: dict, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = with_settings(settings)
    plan, _ = run_data(config)
    moved, set_aside = [], Artifact.set_aside

    def killed(artifact: Artifact) -> None:
        set_aside(artifact)
        moved.append(artifact.name)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Artifact, "set_aside", killed)
        with pytest.raises(KeyboardInterrupt):
            run_data(config, force=("score",))
    left = [name for name in DATA_STAGES if plan.artifacts[name].folder.exists()]
    assert left == [name for name in DATA_STAGES if name not in moved] == list(DATA_STAGES)[:-1]


def test_a_prompt_longer_than_the_context_is_a_failure(settings: dict, prompt_file: Path) -> None:
    with open(prompt_file, "a") as file:
        file.write(json.dumps({"prompt": "long " * 500}) + "\n")
    engine = {"kind": "fake", "max_model_len": 200}
    sample = {**settings["sample"], "engine": engine}
    plan, _ = run_data(with_settings(settings, sample=sample, max_failed_fraction=0.2))
    assert [f.reason for f in plan.artifacts["sample"].shards.failures()] == [
        "prompt longer than the context"
    ]


def test_missing_things_are_said_before_time_is_spent(settings: dict, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="does not exist. Did you mean .*prompts.jsonl"):
        run_data(with_settings(settings, prompts={"train": {"path": str(tmp_path / "promts.jsonl")}}))
    with pytest.raises(ModelError, match="does not exist"):
        run_data(with_settings(settings, model=str(tmp_path / "no-model")))
    with pytest.raises(ConfigError, match="has no 'cheerfull'. Did you mean 'cheerful'"):
        reward = {"kind": "rule", "function": "tests.pipeline.conftest:cheerfull"}
        run_data(with_settings(settings, reward=reward))
    with pytest.raises(ConfigError, match="num_accepted=20 is more than"):
        run_data(with_settings(settings, select={"num_accepted": 20}))
    assert not (tmp_path / "runs").exists()


def test_a_file_without_a_usable_prompt_is_refused(settings: dict, prompt_file: Path) -> None:
    prompt_file.write_text("")
    with pytest.raises(DataError, match="prompts.jsonl holds no prompts"):
        run_data(with_settings(settings))
    prompt_file.write_text('{"promt": "a"}\n')
    with pytest.raises(DataError, match="rows refused: 1; the first: .*row 1: has promt"):
        run_data(with_settings(settings))


def test_a_gpu_that_is_not_there_is_refused(settings: dict) -> None:
    torch = pytest.importorskip("torch")
    if torch.cuda.is_available():
        pytest.skip("this machine has a GPU")
    compute = {"runner": "local", "sample": {"num_gpus": 1}}
    with pytest.raises(StageError, match="asks for 1 GPU"):
        run_data(with_settings(settings, compute=compute))


def test_two_runs_in_one_folder_are_refused(config: RunConfig) -> None:
    with open_run(config), pytest.raises(ArtifactError, match="Another process is working"):
        run_data(config)


def test_a_run_that_was_killed_before_it_had_a_name_is_gone_on_with(config: RunConfig) -> None:
    config.root.mkdir(parents=True)
    (config.root / ".lock").write_text('{"released": 1}')
    (config.root / ".run.json.1a2b3c4d").write_text("{")
    with open_run(config) as root:
        assert (root / "run.json").exists()


def test_a_folder_of_something_else_is_left_alone(config: RunConfig) -> None:
    config.root.mkdir(parents=True)
    (config.root / "thesis.txt").write_text("dear")
    with pytest.raises(ArtifactError, match="is not a run of rayflow"):
        run_data(config)
    assert [path.name for path in config.root.iterdir()] == ["thesis.txt"]


def test_a_stage_that_moves_because_others_come_before_it_is_named(settings: dict) -> None:
    first, text = run_data(with_settings(settings))
    assert "others than before" not in text
    unscored = {"select": "first_k", "pair": "none", "train": {"loss": "cross_entropy"}}
    plan, text = run_data(with_settings(settings, **unscored))
    old, new = (each.artifacts["select"].folder.name for each in (first, plan))
    assert old != new and f"{new} is new, {old} stays as it was" in text
    assert first.artifacts["select"].committed


@given(st.lists(st.tuples(st.integers(0, 50), st.integers(0, 9)), max_size=8))
def test_times_that_overlap_are_counted_once(spans: list[tuple[int, int]]) -> None:
    found = covered([(begin, begin + length) for begin, length in spans])
    assert found == len({second for begin, length in spans for second in range(begin, begin + length)})


def test_a_resumed_stage_says_what_all_calls_took(config: RunConfig) -> None:
    """Two shards of an earlier call took 100 s each, 40 of them together; the scores' nothing beyond the samples'."""
    plan, _ = run_data(config)
    sample, score = plan.artifacts["sample"], plan.artifacts["score"]
    for artifact in (score, sample):
        artifact.forget({0})
        for index, finished in ((1, 1000.0), (2, 1060.0)):
            path = artifact.shards.folder / f"{index:05d}.json"
            path.write_text(json.dumps(read_json(path) | {"seconds": 100.0, "finished": finished}))
    again, _ = run_data(config)
    assert 160.0 <= again.artifacts["sample"].manifest().seconds < 260.0
    assert again.artifacts["score"].manifest().seconds < 100.0


def test_whoever_forces_scores_anew_forces_all_of_that_reward(settings: dict, tiny_model: str) -> None:
    """A function's code is in no fingerprint: the baseline's scores are as old as the candidates'."""
    held_out = settings["prompts"]["train"]
    given = {**settings, "model": tiny_model, "prompts": {"train": held_out, "evaluation": held_out}}
    plan = build_run_plan(RunConfig.model_validate(given))
    assert {"score", "eval-score-sft", "eval-score-policy", "evaluate"} <= set(plan.dependents(["score"]))
    assert "eval-sample-sft" not in plan.dependents(["score"])
    assert "eval-score-sft" not in plan.dependents(["select"])
