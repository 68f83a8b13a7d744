"""Diagnosing a stored run: its own rows, its own seeds, one pass per question, no model."""

from __future__ import annotations

import numpy as np
import pytest

from rayflow.config import RunConfig
from rayflow.core.rows import Scores
from rayflow.errors import ArtifactError, ConfigError, DataError
from rayflow.evaluation import importance
from rayflow.pipeline import diagnose as subject_module
from rayflow.pipeline.diagnose import diagnose_run, draw_sample, make_rule, reward_batches, subject
from rayflow.pipeline.plan import Plan
from rayflow.pipeline.run_plan import build_run_plan
from tests.pipeline.conftest import NUM_PROMPTS
from tests.pipeline.helpers import data_plan, run_data, tables


@pytest.fixture
def plan(config: RunConfig) -> Plan:
    """A run with everything up to the pairs."""
    return run_data(config)[0]


def test_the_estimates_are_those_of_the_stored_rewards(plan: Plan) -> None:
    rewards = np.array([row["rewards"] for row in tables(plan)["score"]])
    found = diagnose_run(plan, [0.3], None, None)
    point = next(point for point in found.points if point.beta == 0.3)
    direct = importance.estimate(rewards, 0.3)
    assert (found.num_prompts, found.num_candidates, found.num_accepted) == (NUM_PROMPTS, 16, 4)
    assert point.kl.mean == pytest.approx(direct.kl.mean())
    assert point.acceptance.mean == pytest.approx(direct.acceptance.mean())
    assert found.sft.reward.mean == pytest.approx(rewards.mean())


@pytest.mark.parametrize(
    "select",
    [{}, {"maximum": "acceptance"}, {"text_keyed": True}, {"kind": "gumbel"}],
    ids=lambda select: next(iter(select), "as printed"),
)
def test_at_the_runs_own_beta_the_rule_accepts_what_the_run_did(settings: dict, select: dict) -> None:
    settings["sample"]["engine"]["words"] = ["good", "bad", "film"]  # so few that texts come more than once
    settings["sample"]["max_tokens"] = 10
    settings["select"] |= select
    plan, _ = run_data(RunConfig.model_validate(settings))
    stored = tables(plan)
    assert any(len(set(row["responses"])) < 16 for row in stored["sample"])
    found = diagnose_run(plan, [], None, None)
    assert found.own_beta == 0.1
    own = next(point for point in found.points if point.beta == found.own_beta).outcome
    assert own.rounds.mean == pytest.approx(np.mean([row["num_rounds"] for row in stored["select"]]))
    texts = {row["prompt_id"]: row["responses"] for row in stored["sample"]}
    distinct = [len({texts[r["prompt_id"]][i] for i in r["accepted"]}) for r in stored["select"]]
    assert own.distinct.mean == pytest.approx(np.mean(distinct))


def test_small_shards_are_gathered_and_all_rewards_come_once(
    plan: Plan, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(subject_module, "BATCH_PROMPTS", 5)
    batches = list(reward_batches(plan.artifacts["score"]))
    assert [len(batch) for batch in batches] == [8, 2]  # shards of 4, 4 and 2
    assert np.concatenate(batches).tolist() == [row["rewards"] for row in tables(plan)["score"]]


def test_a_sample_is_of_the_right_rows_and_does_not_depend_on_shards(plan: Plan) -> None:
    sources = [plan.artifacts["sample"], plan.artifacts["score"]]
    stored = {row["prompt_id"]: row for row in tables(plan)["sample"]}
    scores = {row["prompt_id"]: row["rewards"] for row in tables(plan)["score"]}
    ids, sample = draw_sample(sources, NUM_PROMPTS, seed=1, limit=6)
    assert len(set(ids)) == 6
    for i, prompt_id in enumerate(ids):
        row = stored[prompt_id]
        assert sample.rewards[i].tolist() == scores[prompt_id]
        assert sample.lengths[i].tolist() == [len(tokens) for tokens in row["token_ids"]]
        same = [[a == b for b in row["responses"]] for a in row["responses"]]
        assert (sample.texts[i][:, None] == sample.texts[i][None, :]).tolist() == same
    assert draw_sample(sources, NUM_PROMPTS, seed=2, limit=6)[0] != ids
    everything, _ = draw_sample(sources, NUM_PROMPTS, seed=1)
    assert everything == [row["prompt_id"] for row in tables(plan)["score"]]


def test_no_selection_is_a_beta_that_the_rule_can_run(plan: Plan) -> None:
    ids, sample = draw_sample([plan.artifacts["sample"], plan.artifacts["score"]], NUM_PROMPTS, seed=0)
    accepted, rounds = make_rule(plan, ids, sample.texts, 4)(sample.rewards, float("inf"))
    assert rounds.tolist() == [1] * NUM_PROMPTS
    assert len({tuple(chosen) for chosen in accepted}) > 1  # the first ones of each prompt's own order


def test_gumbel_sampling_is_diagnosed_down_to_beta_zero(settings: dict) -> None:
    settings["select"] = {"kind": "gumbel", "beta": 0.02, "num_accepted": 4}
    plan, _ = run_data(RunConfig.model_validate(settings))
    ids, sample = draw_sample([plan.artifacts["sample"], plan.artifacts["score"]], NUM_PROMPTS, seed=0)
    rule = make_rule(plan, ids, sample.texts, 4)
    stored = {row["prompt_id"]: row["accepted"] for row in tables(plan)["select"]}
    assert [chosen.tolist() for chosen in rule(sample.rewards, 0.02)[0]] == [stored[i] for i in ids]
    for rewards, chosen in zip(sample.rewards, rule(sample.rewards, 0.0)[0], strict=True):
        assert rewards[chosen].tolist() == sorted(rewards, reverse=True)[:4]
    assert diagnose_run(plan, [], None, None).own_beta == 0.02


def test_another_selection_is_diagnosed_with_an_eighth_of_the_candidates(settings: dict) -> None:
    plan, _ = run_data(RunConfig.model_validate(settings | {"select": {"kind": "all"}}))
    found = diagnose_run(plan, [], None, None)
    assert found.num_accepted == 2 and found.own_beta is None
    assert diagnose_run(plan, [], 5, None).num_accepted == 5


def test_scores_that_are_missing_are_named(config: RunConfig, settings: dict) -> None:
    plan = data_plan(config)
    with pytest.raises(ArtifactError, match=r"02-sample is not finished; run it first"):
        diagnose_run(plan, [], None, None)
    plan, _ = run_data(config)
    (plan.artifacts["score"].folder / "manifest.json").unlink()
    with pytest.raises(ArtifactError, match=r"03-score is not finished; run it first"):
        diagnose_run(plan, [], None, None)


def test_a_run_without_samples_has_no_beta_to_choose(settings: dict) -> None:
    given = {key: settings[key] for key in ("name", "runs_dir", "model", "prompts")} | {"source": "targets"}
    with pytest.raises(ConfigError, match="source targets"):
        diagnose_run(build_run_plan(RunConfig.model_validate(given)), [], None, None)


def test_failed_rows_are_left_out(settings: dict) -> None:
    settings["reward"]["function"] = "tests.pipeline.conftest:not_a_number"
    plan, _ = run_data(RunConfig.model_validate(settings | {"max_failed_fraction": 0.5}))
    assert diagnose_run(plan, [], None, None).num_prompts == NUM_PROMPTS - 1


def test_what_cannot_be_estimated_is_refused_with_the_remedy(plan: Plan, monkeypatch) -> None:
    with pytest.raises(ConfigError, match="Use --num-accepted below 16"):
        diagnose_run(plan, [], 16, None)
    uneven = [[Scores(prompt_id="a", rewards=np.zeros(3)), Scores(prompt_id="b", rewards=np.zeros(2))]]
    monkeypatch.setattr(subject_module, "read_rows", lambda *_: uneven[0])
    with pytest.raises(DataError, match="between 2 and 3 candidates"):
        list(reward_batches(plan.artifacts["score"]))


def test_the_subject_says_how_the_candidates_were_drawn(plan: Plan) -> None:
    told = subject(plan, "runs/a")
    assert told.sampling == "16 candidates, temperature 0.7, top_k 40"
    assert told.name == "small" and "cheerful" in told.reward
