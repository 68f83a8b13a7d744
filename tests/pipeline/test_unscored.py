"""Runs in which nothing reads rewards: none are computed, and whoever would show them says so."""

from __future__ import annotations

import json

import pytest
from rich.console import Console

from rayflow.config import RunConfig
from rayflow.errors import ConfigError
from rayflow.pipeline import commands
from rayflow.pipeline.export import write_trl
from rayflow.pipeline.report import report
from rayflow.pipeline.run_plan import build_run_plan
from tests.pipeline.conftest import NUM_PROMPTS
from tests.pipeline.helpers import run_data, tables
from tests.pipeline.judges import Counting
from tests.test_whole import finished_run, small_settings

COUNTING = {"kind": "tests.pipeline.judges:Counting"}
PLAIN = {"kind": "rule", "function": "tests.pipeline.conftest:cheerful"}
FIRST = {"kind": "first_k", "num_accepted": 4}


def stages(
    settings: dict, reward: dict, select: object, pair: object, loss: str, **more: object
) -> list[str]:
    changes = {"reward": reward, "select": select, "pair": pair, "train": {"loss": {"kind": loss}}, **more}
    return list(build_run_plan(RunConfig.model_validate({**settings, **changes})).stages)


@pytest.mark.parametrize(
    ("reward", "select", "pair", "loss", "scored"),
    [
        (COUNTING, "knockout", "none", "cross_entropy", False),
        (COUNTING, FIRST, "first_round", "hinge", False),
        (COUNTING, FIRST, "tournament", "sigmoid_norm", False),
        (COUNTING, "all", "all_pairs", "sigmoid_norm", False),
        (PLAIN, FIRST, "none", "cross_entropy", False),
        (PLAIN, "knockout", "none", "cross_entropy", True),  # the stored rewards are the judge
        (PLAIN, FIRST, "first_round", "hinge", True),  # they give the labels
        (COUNTING, FIRST, "best_worst", "hinge", True),  # they say which two are compared
        (COUNTING, FIRST, "gap", "sigmoid_norm", True),
        (COUNTING, "rejection", "first_round", "hinge_norm", True),
        (COUNTING, "top_k", "first_round", "hinge_norm", True),
        (COUNTING, FIRST, "first_round", "lipo_lambda", True),  # the loss reads them
    ],
)
def test_candidates_are_scored_where_something_reads_their_rewards(
    settings: dict, reward: dict, select: object, pair: str, loss: str, scored: bool
) -> None:
    assert ("score" in stages(settings, reward, select, pair, loss)) == scored
    assert "score" in stages(settings, reward, select, pair, loss, score="always")


@pytest.mark.parametrize(
    ("n", "select", "pair", "calls"),
    [(64, "knockout", "none", 63), (8, {**FIRST, "num_accepted": 8}, "tournament", 7)],
    ids=["raft", "slic-sample-rank"],
)
def test_the_methods_cost_what_the_rso_paper_counts(
    settings: dict, n: int, select: object, pair: str, calls: int
) -> None:
    """arXiv:2309.06657, Table 7: RAFT (64 decodes, 63 ranker calls), SLiC-sample-rank (8, 7)."""
    Counting.total = 0
    sample = {**settings["sample"], "num_candidates": n}
    loss = {"loss": {"kind": "cross_entropy" if pair == "none" else "hinge"}}
    changes = {"reward": COUNTING, "sample": sample, "select": select, "pair": pair, "train": loss}
    plan, _ = run_data(RunConfig.model_validate({**settings, **changes}))
    assert Counting.total == NUM_PROMPTS * calls
    assert "score" not in plan.stages and len(tables(plan)["pair"]) == NUM_PROMPTS


def test_the_choice_is_the_same_with_rewards_that_nobody_reads(settings: dict) -> None:
    changes = {
        "reward": COUNTING,
        "select": FIRST,
        "pair": "tournament",
        "train": {"loss": {"kind": "hinge"}},
    }
    without, _ = run_data(RunConfig.model_validate({**settings, **changes}))
    scored, _ = run_data(
        RunConfig.model_validate({**settings, **changes, "score": "always", "name": "scored"})
    )
    assert tables(without)["select"] == tables(scored)["select"]
    assert tables(without)["pair"] == tables(scored)["pair"]


def test_the_report_the_export_and_the_diagnosis_say_that_there_are_no_rewards(
    settings: dict, tmp_path
) -> None:
    changes = {
        "reward": COUNTING,
        "select": FIRST,
        "pair": "tournament",
        "train": {"loss": {"kind": "hinge"}},
    }
    plan, _ = run_data(RunConfig.model_validate({**settings, **changes}))
    page, _ = report(plan)
    summary = json.loads((plan.config.root / "summary.json").read_text())
    chosen = summary["selection"]
    assert chosen["candidate_reward"] is None and chosen["accepted_reward"] is None
    assert chosen["num_candidates"] == NUM_PROMPTS * 16 and chosen["num_accepted"] == NUM_PROMPTS * 4
    assert any("have no rewards" in note for note in summary["notes"])
    assert "Rewards before and after selection" not in page.read_text()
    assert "The candidates have no rewards" in page.read_text()
    assert write_trl(plan.artifacts, tmp_path / "pairs.parquet")[0] > 0
    write_trl(plan.artifacts, tmp_path / "pairs.jsonl")
    line = json.loads((tmp_path / "pairs.jsonl").read_text().splitlines()[0])
    endings = {"finish_reason_chosen", "finish_reason_rejected"}
    assert set(line) == {"pair_id", "prompt", "chosen", "rejected", *endings}
    with pytest.raises(ConfigError, match="no beta to choose[\\s\\S]*score=always"):
        commands.diagnose(plan.config.root, Console(quiet=True))
    with pytest.raises(ConfigError, match="has no rewards, and this selection"):
        commands.reselect(plan.config.root, ["select.kind=top_k"], "again", Console(quiet=True))
    commands.reselect(plan.config.root, ["select.num_accepted=3"], "fewer", Console(quiet=True))
    assert {p.name for p in (plan.config.root.parent / "fewer").glob("0*")} >= {"03-select", "04-pair"}


def test_a_policy_is_trained_and_evaluated_without_rewards_of_its_candidates(
    tmp_path, prompt_file, tiny_model
) -> None:
    settings = small_settings(tmp_path, prompt_file, tiny_model) | {"reward": COUNTING, "select": "knockout"}
    settings["pair"] = "none"
    settings["train"] = {**settings["train"], "loss": {"kind": "cross_entropy"}}
    plan = finished_run(RunConfig.model_validate(settings))
    summary = json.loads((plan.config.root / "summary.json").read_text())
    assert summary["missing"] == [] and "score" not in plan.stages
    assert summary["training"]["last_step"] >= 2
