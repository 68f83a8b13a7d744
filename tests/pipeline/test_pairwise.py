"""Runs with a pairwise reward: what it costs, who labels, and how two policies are compared."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from rayflow.config import RunConfig
from rayflow.core.stats import logit
from rayflow.errors import StageError
from rayflow.pipeline.run_plan import build_run_plan
from tests.conftest import build_tiny_model
from tests.pipeline.conftest import NUM_PROMPTS, cheerful
from tests.pipeline.helpers import run_data, tables, with_settings
from tests.pipeline.judges import Counting
from tests.test_whole import finished_run, small_settings

COUNTING = {"kind": "tests.pipeline.judges:Counting"}


@pytest.mark.parametrize(
    ("pair", "labels"), [("first_round", 4), ("tournament", 7), ("gap", 0)], ids=lambda value: str(value)
)
def test_a_prompt_costs_n_minus_one_comparisons_and_one_for_each_label(
    settings: dict, pair: str, labels: int
) -> None:
    """The RSO paper's count for 64 candidates and 8 accepted: 63 + 4."""
    sample = {**settings["sample"], "num_candidates": 64, "max_tokens": 40}
    select = {"beta": 0.5, "num_accepted": 8}
    Counting.total = 0
    run_data(with_settings(settings, sample=sample, select=select, reward=COUNTING, pair=pair))
    assert Counting.total == NUM_PROMPTS * (63 + labels)


def test_rest_costs_one_comparison_less_than_it_has_candidates(settings: dict) -> None:
    """arXiv:2309.06657, Table 7: ReST (64 decodes, 63 ranker calls)."""
    Counting.total = 0
    sample = {**settings["sample"], "num_candidates": 64}
    loss = {"loss": {"kind": "cross_entropy"}}
    changes = {"sample": sample, "reward": COUNTING, "select": "threshold", "pair": "none", "train": loss}
    plan, _ = run_data(with_settings(settings, **changes))
    assert Counting.total == NUM_PROMPTS * 63
    assert {len(row["responses"]) for row in tables(plan)["sample"]} == {64}


def test_the_winner_of_a_tournament_is_judged_anew(settings: dict) -> None:
    Counting.total = 0
    changes = {"reward": COUNTING, "select": "knockout", "pair": "none"}
    changes["train"] = {"loss": {"kind": "cross_entropy"}}
    plan, _ = run_data(with_settings(settings, **changes))
    assert Counting.total == NUM_PROMPTS * 15  # no rewards: nothing reads them
    stored = tables(plan)
    for sampled, selected in zip(stored["sample"], stored["select"], strict=True):
        quality = [cheerful("", text) for text in sampled["responses"]]
        (winner,) = selected["accepted"]
        assert quality[winner] == max(quality)


def test_labels_come_from_new_calls_and_carry_their_log_odds(settings: dict) -> None:
    plan, _ = run_data(with_settings(settings, reward=COUNTING))
    stored = tables(plan)
    compared = 0
    for sampled, scored, paired in zip(stored["sample"], stored["score"], stored["pair"], strict=True):
        assert paired["label_source"] == "ranker"
        assert scored["rewards"].count(0.0) >= 1
        quality = 10 * np.array([cheerful("", text) for text in sampled["responses"]])
        for (chosen, rejected), margin in zip(paired["pairs"], paired["margins"], strict=True):
            assert margin == pytest.approx(quality[chosen] - quality[rejected], abs=1e-6) and margin > 0
            compared += 1
    assert compared


def test_a_rule_without_questions_needs_no_ranker(settings: dict) -> None:
    stages = build_run_plan(with_settings(settings, reward=COUNTING, pair="gap")).stages
    assert not stages["pair"].actor and stages["pair"].inputs == ("score", "select")
    asking = build_run_plan(with_settings(settings, reward=COUNTING)).stages["pair"]
    assert asking.actor and asking.inputs == ("prompts", "sample", "score", "select")
    plan, _ = run_data(with_settings(settings, reward=COUNTING, pair={"kind": "gap", "tau": 0.1}))
    stored = tables(plan)
    assert {row["label_source"] for row in stored["pair"]} == {"reward"}
    for scored, row in zip(stored["score"], stored["pair"], strict=True):
        for (chosen, rejected), margin in zip(row["pairs"], row["margins"], strict=True):
            assert margin == scored["rewards"][chosen] - scored["rewards"][rejected]


def test_a_pointwise_reward_labels_by_what_is_stored(config: RunConfig) -> None:
    plan, _ = run_data(config)
    rows = tables(plan)["pair"]
    assert {row["label_source"] for row in rows} == {"reward"}
    assert not plan.stages["pair"].actor


def test_a_label_that_fails_is_a_failed_row(settings: dict) -> None:
    reward = {"kind": "tests.pipeline.judges:Failing"}
    plan, _ = run_data(with_settings(settings, reward=reward, max_failed_fraction=0.2))
    (failure,) = plan.artifacts["pair"].shards.failures()
    assert (failure.reason, failure.detail) == ("label failed", "context too long")
    assert plan.artifacts["score"].manifest().num_failed == 0
    with pytest.raises(StageError, match="label failed"):
        run_data(with_settings(settings, reward=reward, name="strict"))


def test_who_labels_is_part_of_what_the_pairs_are(settings: dict) -> None:
    one = build_run_plan(with_settings(settings, reward=COUNTING)).identities["pair"]
    other = build_run_plan(with_settings(settings, reward={**COUNTING, "turned": True})).identities["pair"]
    assert one["labels"] != other["labels"]
    assert "labels" not in build_run_plan(with_settings(settings)).identities["pair"]


def test_a_tiny_ranker_goes_from_prompts_to_pairs(settings: dict, tiny_model: str) -> None:
    reward = {"kind": "ranker", "model": tiny_model, "dtype": "float32"}
    prompts = {"train": {**settings["prompts"]["train"], "limit": 3}}
    plan, _ = run_data(with_settings(settings, reward=reward, prompts=prompts))
    stored = tables(plan)
    assert len(stored["pair"]) == 3 and sum(len(row["pairs"]) for row in stored["pair"]) > 0
    for row in stored["pair"]:
        assert row["label_source"] == "ranker" and all(margin > 0 for margin in row["margins"])
    assert all(np.ptp(row["rewards"]) > 0 for row in stored["score"])
    assert len(plan.identities["pair"]["models"]) == 1


@pytest.fixture(scope="session")
def causal_ranker(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A tiny language model with other weights than the policy."""
    folder = tmp_path_factory.mktemp("ranker") / "tiny"
    build_tiny_model(folder, seed=1)
    return str(folder)


@pytest.fixture
def chat_file(tmp_path: Path) -> Path:
    """Six chat prompts with targets."""
    path = tmp_path / "chat.jsonl"
    rows = [
        {"messages": [{"role": "user", "content": f"write review {i}"}], "target": "a good and great film"}
        for i in range(6)
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


@pytest.mark.parametrize("baseline", ["sft", "target"])
def test_a_checkpoint_is_chosen_by_comparisons(
    tmp_path: Path, chat_file: Path, tiny_model: str, baseline: str
) -> None:
    settings = small_settings(tmp_path, chat_file, tiny_model)
    settings["prompts"] = {"train": {"path": str(chat_file)}, "validation": {"path": str(chat_file)}}
    settings["reward"] = COUNTING
    settings["train"]["choose"] = {"every_steps": 2, "num_samples": 2, "baseline": baseline}
    config = RunConfig.model_validate(settings)
    Counting.total = 0
    plan = finished_run(config)
    lines = (plan.artifacts["train"].folder / "metrics.jsonl").read_text().splitlines()
    rates = [json.loads(line).get("eval/win_rate") for line in lines]
    assert rates[0] is None and 0 < rates[1] < 1 and 0 < rates[2] < 1
    assert "valid-score-sft" not in plan.stages
    labels = json.loads((config.root / "summary.json").read_text())["pairing"]["num_by_ranker"]
    against = 2 if baseline == "sft" else 1
    assert Counting.total >= 6 * 15 + labels + 2 * 6 * 2 * against


def test_the_ranker_that_chooses_is_part_of_what_the_policy_is(
    tmp_path: Path, chat_file: Path, tiny_model: str, causal_ranker: str
) -> None:
    settings = small_settings(tmp_path, chat_file, tiny_model)
    settings["prompts"] = {"train": {"path": str(chat_file)}, "validation": {"path": str(chat_file)}}
    settings["reward"] = {"kind": "ranker", "model": causal_ranker}
    without = build_run_plan(RunConfig.model_validate(settings)).identities["train"]["models"]
    settings["train"]["choose"] = {"every_steps": 2}
    chosen = build_run_plan(RunConfig.model_validate(settings)).identities["train"]["models"]
    assert len(without) == 1 and len(chosen) == 2 and chosen[0] == without[0] != chosen[1]


@pytest.mark.parametrize("baseline", ["sft", "target"])
def test_policies_are_compared_response_by_response(
    tmp_path: Path, chat_file: Path, tiny_model: str, baseline: str
) -> None:
    settings = small_settings(tmp_path, chat_file, tiny_model)
    settings |= {"reward": COUNTING, "seed": 1}
    settings["evaluate"] = {"num_samples": 3, "num_resamples": 100, "baseline": baseline}
    plan = finished_run(RunConfig.model_validate(settings))
    assert not [name for name in plan.stages if name.startswith("eval-score")]
    stored = tables(plan)
    others = stored["eval-sample-sft" if baseline == "sft" else "eval-encode-target"]
    rows = zip(stored["eval-sample-policy"], others, stored["eval-compare"], stored["evaluate"], strict=True)
    for policy, other, compared, verdict in rows:
        ours = 10 * np.array([cheerful("", text) for text in policy["responses"]])
        theirs = 10 * np.array([cheerful("", text) for text in other["responses"]])
        odds = ours[:, None] - theirs[None, :]
        rates = 1 / (1 + np.exp(-odds))
        assert compared["preferred"] == pytest.approx(rates.ravel())
        assert verdict["win_rate"] == pytest.approx(np.mean(odds > 0) + np.mean(odds == 0) / 2)
        assert verdict["tie_rate"] == pytest.approx(np.mean(odds == 0))
        # The judge is exactly Bradley-Terry, so the fitted rewards are the qualities up to one shift.
        assert compared["policy_rewards"] == pytest.approx(ours - theirs.mean(), abs=1e-6)
        assert compared["baseline_rewards"] == pytest.approx(theirs - theirs.mean(), abs=1e-6)
        assert verdict["policy_reward"] == pytest.approx(logit(rates).mean())
        assert verdict["baseline_reward"] == 0.0
    summary = json.loads((plan.config.root / "summary.json").read_text())
    assert summary["missing"] == [] and summary["evaluation"]["num_prompts"] == 6
    assert summary["pairing"]["num_by_ranker"] == summary["pairing"]["num_pairs"] > 0
    page = (plan.config.root / "report.html").read_text()
    assert "Margin of the ranker" in page
    assert any("mean probability" in note for note in summary["notes"])
