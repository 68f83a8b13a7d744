"""Prompts that selection leaves short: sampled again, scored, chosen anew, and nothing else is touched."""

from __future__ import annotations

import json

import numpy as np
import pytest
from rich.console import Console

from rayflow.config import RunConfig
from rayflow.core.seeds import sampling_seed
from rayflow.engines.fake import FakeEngine
from rayflow.errors import ConfigError
from rayflow.pipeline import commands
from rayflow.pipeline.amended import as_written
from rayflow.pipeline.diagnose import diagnose_run
from rayflow.pipeline.execute import Pipeline
from rayflow.pipeline.export import write_trl
from rayflow.pipeline.plan import Plan
from rayflow.pipeline.report import report
from rayflow.pipeline.run_plan import build_run_plan
from rayflow.pipeline.runner import LocalRunner, Runner
from rayflow.pipeline.stage import ShardWorker
from rayflow.pipeline.verify import repair, verify
from tests.pipeline.conftest import NUM_PROMPTS, cheerful
from tests.pipeline.helpers import tables, with_settings
from tests.pipeline.judges import Counting

WORDS = ["good", "bad", "film"]
RULE = {"kind": "rejection", "text_keyed": True, "beta": 0.1, "num_accepted": 7, "shortfall": "resample"}
TOO_MANY = {"kind": "top_k", "num_accepted": 40, "shortfall": "resample"}
"""More than 16 candidates can give, so that every prompt needs the two further draws."""


def scarce(settings: dict, **changes: object) -> RunConfig:
    """Few words and few tokens: many candidates are the same text, so text-keyed selection falls short."""
    sample = {"engine": {"kind": "fake", "words": WORDS}, "num_candidates": 16, "max_tokens": 10}
    return with_settings(settings, **{"sample": sample, "select": RULE, **changes})


def finish(config: RunConfig, runner: Runner | None = None) -> Plan:
    """Run everything up to the pairs, in this process or by another runner."""
    whole = build_run_plan(config)
    plan = Plan(config, tuple(step for step in whole.steps if step[0].name not in ("reference", "train")))
    Pipeline(plan, runner or LocalRunner(config.compute), Console(quiet=True)).run()
    return plan


def own_rows(plan: Plan, name: str) -> list[dict]:
    """What a stage wrote itself."""
    artifact = as_written(plan.artifacts[name])
    return [row for i in range(artifact.num_shards) for row in artifact.shards.read(i).to_pylist()]


def test_only_short_prompts_are_sampled_again_and_every_prompt_comes_out_once(settings: dict) -> None:
    kept = finish(scarce(settings, name="kept", select={**RULE, "shortfall": "keep"}))
    short = {row["prompt_id"] for row in tables(kept)["select"] if len(row["accepted"]) < 7}
    assert 0 < len(short) < NUM_PROMPTS  # the fixture has both kinds
    plan = finish(scarce(settings))
    stored = tables(plan)
    again = own_rows(plan, "resample-1")
    assert {row["prompt_id"] for row in again} == short
    ids = [row["prompt_id"] for row in stored["prompts"]]
    assert all(
        [row["prompt_id"] for row in stored[name]] == ids for name in ("sample", "score", "select", "pair")
    )
    sizes = {row["prompt_id"]: len(row["responses"]) for row in stored["sample"]}
    assert {key for key, size in sizes.items() if size > 16} == short
    fewer = [row for row in stored["select"] if len(row["accepted"]) < 7]
    assert len(fewer) < len(short)
    for sampled, chosen in zip(stored["sample"], stored["select"], strict=True):
        texts = [sampled["responses"][i] for i in chosen["accepted"]]
        assert len(set(texts)) == len(texts)
    others = [row for row in tables(kept)["select"] if row["prompt_id"] not in short]
    assert [row for row in stored["select"] if row["prompt_id"] not in short] == others


def test_a_further_draw_goes_behind_the_first_and_is_another_one(settings: dict) -> None:
    plan = finish(scarce(settings, select=TOO_MANY))
    first = {row["prompt_id"]: row for row in own_rows(plan, "sample")}
    rewards = {row["prompt_id"]: row["rewards"] for row in own_rows(plan, "score")}
    for row in tables(plan)["sample"]:
        before = first[row["prompt_id"]]
        assert len(row["responses"]) == len(row["token_ids"]) == len(row["logprobs"]) == 48
        for name in ("responses", "token_ids", "logprobs", "finish_reasons"):
            assert row[name][:16] == before[name]
        draws = [row["responses"][i : i + 16] for i in (0, 16, 32)]
        assert draws[0] != draws[1] != draws[2] != draws[0]
        assert row["seed"] == sampling_seed(3, "sample", row["prompt_id"])
    for sampled, scored, chosen in zip(
        *(tables(plan)[n] for n in ("sample", "score", "select")), strict=True
    ):
        assert scored["rewards"][:16] == rewards[scored["prompt_id"]]
        assert scored["rewards"] == [cheerful("", text) for text in sampled["responses"]]
        best = sorted(scored["rewards"], reverse=True)[:40]
        assert [scored["rewards"][i] for i in chosen["accepted"]] == best  # of all draws together


def test_draws_end_when_there_is_enough_or_at_the_limit(settings: dict) -> None:
    limited = finish(scarce(settings, select={**RULE, "num_accepted": 16, "max_resamples": 1}))
    assert "resample-2" not in limited.stages
    assert {len(row["responses"]) for row in tables(limited)["sample"]} == {32}
    assert max(len(row["accepted"]) for row in tables(limited)["select"]) < 16
    enough = finish(scarce(settings, name="enough", select={**TOO_MANY, "num_accepted": 20}))
    assert len(own_rows(enough, "resample-1")) == NUM_PROMPTS
    assert own_rows(enough, "resample-2") == []


def test_no_engine_and_no_reward_is_started_where_no_prompt_is_short(
    settings: dict, monkeypatch: pytest.MonkeyPatch
) -> None:
    started: list[str] = []
    real = FakeEngine.setup
    monkeypatch.setattr(FakeEngine, "setup", lambda self, model: (started.append(model), real(self, model)))
    plan = finish(scarce(settings, select={**TOO_MANY, "num_accepted": 4}))
    assert len(started) == 1
    assert len(tables(plan)["select"]) == NUM_PROMPTS


def test_results_depend_neither_on_shards_nor_on_a_stop_in_between(
    settings: dict, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = finish(scarce(settings, name="whole"))
    compute = {"runner": "local", "shard_size": 3}
    assert tables(finish(scarce(settings, name="other", compute=compute))) == tables(whole)
    real, died = ShardWorker.run, []

    async def dies(self: ShardWorker, index: int) -> None:
        if (self.stage.name, index) in {("resample-1", 1), ("rescore-1", 0)} - set(died):
            died.append((self.stage.name, index))
            raise KeyboardInterrupt
        await real(self, index)

    monkeypatch.setattr(ShardWorker, "run", dies)
    for _ in range(2):
        with pytest.raises(KeyboardInterrupt):
            finish(scarce(settings))
    assert tables(finish(scarce(settings))) == tables(whole)
    assert len(died) == 2


def test_the_parts_of_a_reward_grow_with_it(settings: dict) -> None:
    rule = {"kind": "rule", "function": "tests.pipeline.conftest:cheerful"}
    members = [{"name": "a", "reward": rule}, {"name": "b", "weight": -0.5, "reward": rule}]
    plan = finish(scarce(settings, select=TOO_MANY, reward={"kind": "ensemble", "members": members}))
    for row in tables(plan)["score"]:
        assert len(row["rewards"]) == len(row["variances"]) == 48
        assert [len(part) for part in row["component_rewards"]] == [48, 48]
        assert row["rewards"] == pytest.approx(0.5 * np.array(row["component_rewards"][0]))


def test_rewards_relative_to_the_group_are_computed_anew_for_the_whole_of_it(settings: dict) -> None:
    """A pairwise reward's zero is one response of the group: two calls would have two zeros."""
    Counting.total = 0
    rule = {**TOO_MANY, "max_resamples": 1, "num_accepted": 20}
    changes = {"reward": {"kind": "tests.pipeline.judges:Counting"}, "pair": {"kind": "gap", "tau": 0.1}}
    plan = finish(scarce(settings, select=rule, **changes))
    assert Counting.total == NUM_PROMPTS * (15 + 31)
    for sampled, scored in zip(tables(plan)["sample"], tables(plan)["score"], strict=True):
        quality = 10 * np.array([cheerful("", text) for text in sampled["responses"]])
        apart = np.array(scored["rewards"]) - quality
        assert apart == pytest.approx(apart[0], abs=1e-5)


def with_further_draws_that_fail(settings: dict, rule: dict) -> tuple[Plan, set[str]]:
    """A run whose reward fails on what a further draw brings to some prompts, and which ones these are."""
    reward = {"kind": "rule", "function": "tests.pipeline.test_resample:fails_on_many"}
    fails_on_many.seen = 0
    changes = {"select": {**rule, "max_resamples": 1}, "max_failed_fraction": 1.0}
    plan = finish(scarce(settings, reward=reward, **changes))
    failed = {failure.prompt_id for failure in plan.artifacts["rescore-1"].shards.failures()}
    assert 0 < len(failed) < NUM_PROMPTS
    return plan, failed


def test_a_prompt_whose_further_draw_fails_keeps_what_it_had(settings: dict) -> None:
    plan, failed = with_further_draws_that_fail(settings, {**TOO_MANY, "num_accepted": 20})
    rows = tables(plan)["select"]
    assert len(rows) == NUM_PROMPTS
    assert {row["prompt_id"] for row in rows if len(row["accepted"]) == 16} == failed
    report(plan)
    summary = json.loads((plan.config.root / "summary.json").read_text())
    assert {(f["stage"], f["kept"]) for f in summary["failures"]} == {("rescore-1", True)}
    assert not any("not in any number" in note for note in summary["notes"])
    assert summary["selection"]["num_resampled"] == NUM_PROMPTS
    assert summary["selection"]["num_short"] == len(failed)


def test_rejection_goes_on_where_a_further_draw_could_not_be_scored(settings: dict) -> None:
    """Such a prompt has more texts than rewards; those that were not short have as many."""
    plan, failed = with_further_draws_that_fail(settings, RULE)
    rows = tables(plan)["select"]
    assert len(rows) == NUM_PROMPTS
    assert all(max(row["accepted"]) < 16 for row in rows if row["prompt_id"] in failed)


def test_verify_holds_each_stage_against_its_own_shards(settings: dict) -> None:
    config = scarce(settings, select={**TOO_MANY, "num_accepted": 20, "max_resamples": 1})
    whole = build_run_plan(config)
    first = Plan(
        config, tuple(step for step in whole.steps if step[0].name in ("prompts", "sample", "score"))
    )
    Pipeline(first, LocalRunner(config.compute), Console(quiet=True)).run()
    assert all(finding.whole for finding in verify(whole))  # killed before anything was drawn again
    plan = finish(config)
    before = tables(plan)
    again = as_written(plan.artifacts["resample-1"])
    (again.shards.folder / again.shards.marker(0).file).write_bytes(b"")
    assert [finding.stage for finding in verify(plan) if not finding.whole] == ["resample-1"]
    assert list(repair(plan, verify(plan))) == ["resample-1", "rescore-1", "select", "pair"]
    assert tables(finish(config)) == before


def fails_on_many(prompt: str, response: str) -> float:
    """A reward that breaks after the first draws of all prompts, for every prompt whose number is odd."""
    fails_on_many.seen += 1
    if fails_on_many.seen > NUM_PROMPTS * 16 and int(prompt.rstrip(".")[-1]) % 2:
        raise ValueError("too many")
    return cheerful(prompt, response)


def test_a_threshold_that_nothing_passes_is_tried_again(settings: dict) -> None:
    rule = {"kind": "threshold", "scale": "none", "threshold": 1.0065}
    changes = {"sample": settings["sample"], "max_failed_fraction": 1.0}
    kept = finish(scarce(settings, name="kept", select=rule, **changes))
    lost = {failure.prompt_id for failure in kept.artifacts["select"].shards.failures()}
    assert 0 < len(lost) < NUM_PROMPTS
    again = finish(scarce(settings, select={**rule, "shortfall": "resample"}, **changes))
    assert {row["prompt_id"] for row in own_rows(again, "resample-1")} == lost
    assert again.artifacts["select"].manifest().num_failed < len(lost)


def test_who_reads_a_run_with_further_draws_finds_whole_groups(settings: dict, tmp_path) -> None:
    plan = finish(scarce(settings))
    found = diagnose_run(plan, (), num_accepted=None, kl_budget=None)
    assert found.num_candidates == 16  # as first drawn: equally many of every prompt
    total, _ = write_trl(plan.artifacts, tmp_path / "pairs.jsonl")
    lines = [json.loads(line) for line in (tmp_path / "pairs.jsonl").read_text().splitlines()]
    assert len(lines) == total == sum(len(row["pairs"]) for row in tables(plan)["pair"])
    far = [line for line in lines if max(map(int, line["pair_id"].split("/")[1].split(">"))) >= 16]
    assert far  # a pair with a response of a further draw
    for line in lines:
        assert line["score_chosen"] == cheerful("", line["chosen"]) >= line["score_rejected"]


def test_what_cannot_be_asked_for_is_refused(settings: dict, tmp_path) -> None:
    with pytest.raises(ConfigError, match="drawn again at most select.max_resamples=2 times"):
        finish(scarce(settings, select={**TOO_MANY, "num_accepted": 49}))
    plan = finish(scarce(settings))
    with pytest.raises(ConfigError, match="cannot sample again"):
        commands.reselect(plan.config.root, ["select.beta=0.3"], "again", Console(quiet=True))


def test_more_draws_are_no_part_of_what_other_runs_are(settings: dict) -> None:
    keep, again = ({**RULE, "shortfall": kind} for kind in ("keep", "resample"))
    identities = build_run_plan(scarce(settings, select=keep)).identities
    assert "max_resamples" not in identities["select"]["select"]
    growing = build_run_plan(scarce(settings, select=again)).identities
    assert growing["select"]["select"]["max_resamples"] == 2
    assert {"resample-1", "rescore-1", "resample-2", "rescore-2"} < set(growing["select"]["inputs"])
    assert growing["sample"] == identities["sample"]
