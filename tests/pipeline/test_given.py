"""Given responses instead of sampled ones: the data's own preferences, and supervised targets."""

from __future__ import annotations

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
from rayflow.pipeline.plan import Plan, build_plan
from rayflow.training.groups import GroupFile
from tests.pipeline.helpers import tables

PAIRS = [{"prompt": f"Number {i}: ", "chosen": "a joy " * (i + 1), "rejected": "dull"} for i in range(5)]


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
    return build_plan(RunConfig.model_validate({**settings, **changes}))


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
    reasons = sorted(failure.reason for failure in plan.artifacts["encode"].failures())
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


def test_a_loss_that_reads_rewards_refuses_data_without_them(tmp_path, tiny_model):
    plan = plan_of(tmp_path, tiny_model, PAIRS, train={"loss": {"kind": "rrhf"}})
    with pytest.raises(DataError, match="without a reward, which this loss reads"):
        run(plan)


def test_a_target_joins_its_group_for_the_loss_that_reads_it(tmp_path, tiny_model):
    loss = {"kind": "slic", "regularization": 0.1, "y_ref": "target"}
    train = {"batch_size": 2, "precision": "float32", "loss": loss}
    rows = [{"prompt": f"Number {i}: ", "target": "a wonderful joy"} for i in range(4)]
    changes = {
        "source": "sampled",
        "sample": {"engine": {"kind": "fake", "max_model_len": 256}, "num_candidates": 8, "max_tokens": 8},
        "reward": {"kind": "rule", "function": "tests.pipeline.conftest:cheerful"},
        "select": {"beta": 0.2, "num_accepted": 4},
    }
    groups = run(plan_of(tmp_path, tiny_model, rows, train=train, **changes))
    tokenizer = load_tokenizer(tiny_model)
    for group in groups:
        paired = np.unique(group.pairs)  # of the 4 accepted, those that tied are in no pair and left out
        assert group.target == len(paired) and len(group.response_token_ids) == len(paired) + 1
        assert group.pairs.max() < group.target
        assert "wonderful" in tokenizer.decode(group.response_token_ids[group.target])


def test_a_missing_target_is_named(tmp_path, tiny_model):
    loss = {"kind": "slic", "regularization": 0.1, "y_ref": "target"}
    with pytest.raises(DataError, match="has no target, which this loss reads"):
        run(plan_of(tmp_path, tiny_model, PAIRS, train={"loss": loss}))


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
