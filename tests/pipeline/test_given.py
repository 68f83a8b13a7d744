"""Given responses instead of sampled ones: the data's own preferences, and supervised targets."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rich.console import Console

from rayflow.config import RunConfig
from rayflow.core.model_folder import load_tokenizer
from rayflow.errors import ConfigError, DataError
from rayflow.pipeline import commands
from rayflow.pipeline.plan import Plan
from rayflow.pipeline.run_plan import build_run_plan
from rayflow.pipeline.stages.score import ScoreStage
from rayflow.training.groups import GroupFile
from rayflow.training.metrics import read_metrics
from tests.pipeline.conftest import raises
from tests.pipeline.helpers import tables

PAIRS = [{"prompt": f"Number {i}: ", "chosen": "a joy " * (i + 1), "rejected": "dull"} for i in range(5)]


RAISES = {"kind": "rule", "function": "tests.pipeline.conftest:raises"}
CROSS_ENTROPY = {"kind": "cross_entropy"}
CROSS = {"batch_size": 2, "precision": "float32", "loss": CROSS_ENTROPY}
RRHF = {"batch_size": 2, "precision": "float32", "loss": {"kind": "rrhf"}}
SLIC = {
    "batch_size": 2,
    "precision": "float32",
    "loss": {"kind": "slic", "regularization": 0.1, "y_ref": "target"},
}


def plan_of(folder: Path, model: str, rows: list[dict[str, Any]], **changes: Any) -> Plan:
    data = folder / "data.jsonl"
    data.write_text("".join(json.dumps(row) + "\n" for row in rows))
    settings = {
        "name": "given",
        "runs_dir": str(folder / "runs"),
        "model": model,
        "source": "direct",
        "prompts": {"train": {"path": str(data)}},
        "reference": {"precision": "float32"},
        "train": {"batch_size": 2, "precision": "float32", "learning_rate": 1e-3},
        "compute": {"runner": "local", "shard_size": 2},
    }
    return build_run_plan(RunConfig.model_validate({**settings, **changes}))


def run(plan: Plan) -> GroupFile:
    commands.run(plan.config, Console(quiet=True))
    return GroupFile(plan.artifacts["train"].folder / "groups.arrow")


def test_preferences_train_without_sampling_scoring_or_selecting(tmp_path, tiny_model):
    plan = plan_of(tmp_path, tiny_model, PAIRS)
    assert list(plan.stages) == ["prompts", "encode", "reference", "train"]
    groups = run(plan)
    tokenizer = load_tokenizer(tiny_model)
    assert len(groups) == len(PAIRS)
    for group, row in zip(groups, PAIRS, strict=True):
        assert group.pairs.tolist() == [[0, 1]]
        assert np.isnan(group.rewards).all() and np.isfinite(group.ref_logprobs).all()
        chosen = tokenizer.decode(group.response_token_ids[0], skip_special_tokens=True)
        assert chosen.strip() == row["chosen"].strip()
        assert group.response_token_ids[0][-1] == tokenizer.eos_token_id


def test_a_training_that_goes_on_does_not_trust_damaged_training_data(tmp_path, tiny_model):
    plan = plan_of(tmp_path, tiny_model, PAIRS)
    run(plan)
    trained = plan.artifacts["train"]
    path = trained.folder / "groups.arrow"
    before = path.read_bytes()
    damaged = bytearray(before)
    damaged[len(damaged) // 2] ^= 1
    trained.forget(())  # as if it had not ended
    path.write_bytes(damaged)
    text = io.StringIO()
    commands.run(plan.config, Console(file=text, width=300))
    assert path.read_bytes() == before and "groups.arrow is not what was written" in text.getvalue()


def test_targets_are_groups_of_one_response_without_a_reference(tmp_path, tiny_model):
    rows = [{"prompt": f"Number {i}: ", "target": "a joy"} for i in range(5)]
    loss = {"batch_size": 2, "precision": "float32", "loss": {"kind": "cross_entropy"}}
    plan = plan_of(tmp_path, tiny_model, rows, source="targets", train=loss)
    assert list(plan.stages) == ["prompts", "encode", "train"]
    groups = run(plan)
    assert [len(group.response_token_ids) for group in groups] == [1] * 5
    history = (plan.artifacts["train"].folder / "metrics.jsonl").read_text().splitlines()
    assert not [key for key in json.loads(history[0]) if key.startswith("rewards/")]


def test_a_row_without_its_answer_or_longer_than_the_context_is_a_failure(tmp_path, tiny_model):
    rows = [{"prompt": "Number 0: "}, {"prompt": "Number 1: ", "target": "joy " * 600}]
    rows += [{"prompt": f"Number {i}: ", "target": "a joy"} for i in range(2, 5)]
    loss = {"batch_size": 2, "precision": "float32", "loss": {"kind": "cross_entropy"}}
    plan = plan_of(tmp_path, tiny_model, rows, source="targets", train=loss, max_failed_fraction=0.5)
    assert len(run(plan)) == 3
    reasons = sorted(failure.reason for failure in plan.artifacts["encode"].shards.failures())
    assert reasons == ["group longer than the context", "no target"]
    assert [row["responses"] for row in tables(plan)["encode"]] == [["a joy"]] * 3


def test_ranked_responses_train_rrhf_by_their_own_scores(tmp_path, tiny_model):
    rows = [
        {"prompt": f"Number {i}: ", "responses": ["dull", "a joy", "great"], "scores": [0.1, 0.9, 0.5]}
        for i in range(3)
    ]
    loss = {"batch_size": 2, "precision": "float32", "loss": {"kind": "rrhf"}}
    groups = run(plan_of(tmp_path, tiny_model, rows, train=loss))
    assert groups[0].rewards.tolist() == [0.1, 0.9, 0.5]


def test_given_responses_without_scores_are_scored_by_the_runs_reward(tmp_path, tiny_model):
    texts = ["dull", "a good joy", "great"]
    rows: list[dict[str, Any]] = [{"prompt": f"This is number {i}: ", "responses": texts} for i in range(5)]
    rows[1]["scores"] = [0.1, 0.9, 0.5]
    rows[2]["scores"] = [0.1, None, 0.5]  # one scale for a group: all of it is scored
    plan = plan_of(tmp_path, tiny_model, rows, train=RRHF, reward=RAISES, max_failed_fraction=0.2)
    assert list(plan.stages) == ["prompts", "encode", "score", "train"]
    groups = run(plan)
    by_reward = [raises("", text) for text in texts]
    assert [group.rewards.tolist() for group in groups] == [by_reward, [0.1, 0.9, 0.5], by_reward, by_reward]
    (failed,) = plan.artifacts["score"].shards.failures()
    assert failed.reason == "reward failed" and failed.prompt_id not in {g.prompt_id for g in groups}


def test_the_reward_is_not_loaded_for_data_that_brings_its_scores(tmp_path, tiny_model, monkeypatch):
    rows = [{"prompt": f"{i}: ", "responses": ["dull", "joy"], "scores": [0.1, 0.9]} for i in range(3)]
    plan = plan_of(tmp_path, tiny_model, rows, train=RRHF, reward=RAISES)
    monkeypatch.setattr(ScoreStage, "setup", lambda self: pytest.fail("loaded"))
    assert [group.rewards.tolist() for group in run(plan)] == [[0.1, 0.9]] * 3


def test_only_a_loss_that_reads_rewards_has_given_responses_scored(tmp_path, tiny_model):
    assert "score" not in plan_of(tmp_path, tiny_model, PAIRS, reward=RAISES).stages
    loss = {"loss": {"kind": "margin_weighted"}}
    assert list(plan_of(tmp_path, tiny_model, PAIRS, reward=RAISES, train=loss).stages) == [
        *("prompts", "encode", "score", "reference", "train")
    ]


def test_a_loss_that_reads_rewards_refuses_data_without_them(tmp_path, tiny_model):
    plan = plan_of(tmp_path, tiny_model, PAIRS, train={"loss": {"kind": "rrhf"}})
    with pytest.raises(DataError, match="without a reward, which this loss reads"):
        run(plan)


def test_a_target_joins_its_group_for_the_loss_that_reads_it(tmp_path, tiny_model):
    rows = [{"prompt": f"Number {i}: ", "target": "a wonderful joy"} for i in range(4)]
    changes = {
        "source": "sampled",
        "sample": {"engine": {"kind": "fake", "max_model_len": 256}, "num_candidates": 8, "max_tokens": 8},
        "reward": {"kind": "rule", "function": "tests.pipeline.conftest:cheerful"},
        "select": {"beta": 0.2, "num_accepted": 4},
    }
    groups = run(plan_of(tmp_path, tiny_model, rows, train=SLIC, **changes))
    tokenizer = load_tokenizer(tiny_model)
    for group in groups:
        paired = np.unique(group.pairs)  # of the 4 accepted, those that tied are in no pair and left out
        assert group.target == len(paired) and len(group.response_token_ids) == len(paired) + 1
        assert group.pairs.max() < group.target
        assert "wonderful" in tokenizer.decode(group.response_token_ids[group.target])


def test_a_target_that_is_missing_or_longer_than_the_context_is_a_failure(tmp_path, tiny_model):
    targets = [{"target": "joy " * 600}, {}, *({"target": "a joy"} for _ in PAIRS[2:])]
    rows = [row | target for row, target in zip(PAIRS, targets, strict=True)]
    plan = plan_of(tmp_path, tiny_model, rows, train=SLIC, max_failed_fraction=0.5)
    assert list(plan.stages) == ["prompts", "encode", "encode-target", "train"]
    groups = run(plan)
    failed = list(plan.artifacts["encode-target"].shards.failures())
    assert sorted(failure.reason for failure in failed) == ["group longer than the context", "no target"]
    assert any("exceed the context of 512" in failure.detail for failure in failed)
    assert [group.target for group in groups] == [2] * 3
    assert not {group.prompt_id for group in groups} & {failure.prompt_id for failure in failed}
    page = (plan.config.root / "report.html").read_text()
    assert "encode-target" in page and "no target" in page


def test_data_without_any_target_is_refused_before_time_is_spent(tmp_path, tiny_model):
    plan = plan_of(tmp_path, tiny_model, PAIRS, train=SLIC)
    with pytest.raises(
        ConfigError, match=r"'slic' reads targets, and no row of .*data\.jsonl has a 'target'"
    ):
        run(plan)
    assert not plan.config.root.exists() or not list(plan.config.root.glob("0*"))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"select": {"kind": "all"}}, "remove select and pair"),
        (
            {"prompts": {"train": {"path": "x"}, "evaluation": {"path": "x"}}},
            "reward is required to evaluate",
        ),
        (
            {"reward": {"kind": "rule", "function": "a:b"}, "train": {"choose": {"every_steps": 1}}},
            "validation",
        ),
    ],
)
def test_what_does_not_go_together_is_refused(tmp_path, tiny_model, changes, message):
    with pytest.raises(ValueError, match=message):
        plan_of(tmp_path, tiny_model, PAIRS, **changes)


def test_a_loss_over_pairs_needs_pairs(tmp_path, tiny_model):
    plan = plan_of(tmp_path, tiny_model, [{"prompt": "a", "target": "b"}], source="targets")
    with pytest.raises(ConfigError, match="trains on pairs, and this run makes none"):
        run(plan)


def test_raft_with_one_candidate_is_supervised_training_on_it(tmp_path, tiny_model):
    def train_on(name, rows, **changes):
        plan = plan_of(
            tmp_path, tiny_model, rows, name=name, seed=5, train={**SLIC, "loss": CROSS_ENTROPY}, **changes
        )
        groups = run(plan)
        history = read_metrics(plan.artifacts["train"].folder / "metrics.jsonl")
        return plan, [groups[i] for i in range(len(groups))], [line["loss"] for line in history]

    raft = {
        "source": "sampled",
        "sample": {"engine": {"kind": "fake", "max_model_len": 256}, "num_candidates": 1, "max_tokens": 60},
        "reward": {"kind": "rule", "function": "tests.pipeline.conftest:cheerful"},
        "select": {"kind": "top_k", "num_accepted": 1},
        "pair": "none",
    }
    prompts = [{"messages": [{"role": "user", "content": f"Number {i}"}]} for i in range(12)]
    drawn = tables(train_on("drawn", prompts, **raft)[0])["sample"]
    # A response that was cut has no end, and a target always has one.
    whole = [(p, row) for p, row in zip(prompts, drawn, strict=True) if row["finish_reasons"] == ["stop"]]
    assert len(whole) > 6
    _, sampled, losses = train_on("raft", [prompt for prompt, _ in whole], **raft)
    targets = [prompt | {"target": row["responses"][0]} for prompt, row in whole]
    _, supervised, expected = train_on("sft", targets, source="targets")
    for one, other in zip(sampled, supervised, strict=True):
        np.testing.assert_array_equal(one.prompt_token_ids, other.prompt_token_ids)
        np.testing.assert_array_equal(one.response_token_ids, other.response_token_ids)
        assert len(one.response_token_ids) == 1 and not len(one.pairs) and not len(other.pairs)
    assert len(losses) > 3 and losses == expected


def test_supervised_on_pairs_learns_what_was_preferred_alone(tmp_path, tiny_model):
    """A loss over single responses cannot tell a rejected one from a chosen one."""
    group = {"prompt": "Number 9: ", "responses": ["a", "b", "c", "d"], "pairs": [[1, 0], [2, 1], [2, 3]]}
    plan = plan_of(tmp_path, tiny_model, PAIRS, train={**CROSS, "learning_rate": 1e-3})
    groups = run(plan)
    assert [len(groups[i].response_token_ids) for i in range(len(groups))] == [1] * len(PAIRS)
    assert [row["accepted"] for row in tables(plan)["encode"]] == [[0]] * len(PAIRS)
    chosen = load_tokenizer(tiny_model).encode(PAIRS[0]["chosen"], add_special_tokens=False)
    assert groups[0].response_token_ids[0].tolist()[: len(chosen)] == chosen
    rows = [group, {"prompt": "Number 8: ", "responses": ["a", "b"], "pairs": []}]
    (tmp_path / "groups").mkdir()
    plan = plan_of(tmp_path / "groups", tiny_model, rows, train=CROSS)
    run(plan)
    assert [row["accepted"] for row in tables(plan)["encode"]] == [[2], [0, 1]]
