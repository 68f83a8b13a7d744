"""Lineage: what made a row, out of the stored records alone."""

from __future__ import annotations

import json
import os
import re
import shutil
from pathlib import Path

import pytest
from typer.testing import CliRunner

from rayflow.cli.app import app
from rayflow.config import RunConfig
from rayflow.core.seeds import sampling_seed
from rayflow.errors import ArtifactError, DataError
from rayflow.pipeline.lineage import PairPath, trace
from rayflow.pipeline.lineage_sides import held_out
from rayflow.pipeline.plan import Plan
from rayflow.pipeline.run_plan import build_run_plan
from rayflow.report.lineage import lineage_lines
from tests.pipeline.helpers import run_data, tables


@pytest.fixture
def plan(config: RunConfig) -> Plan:
    return run_data(config)[0]


def a_pair(plan: Plan) -> tuple[dict, int, int]:
    """A prompt that has one, not the first."""
    row = next(row for row in reversed(tables(plan)["pair"]) if row["pairs"])
    chosen, rejected = row["pairs"][0]
    return row, chosen, rejected


def test_a_pair_is_told_with_what_every_stage_stored_of_it(plan: Plan) -> None:
    row, chosen, rejected = a_pair(plan)
    prompt = row["prompt_id"]
    found = trace(plan.config.root, f"{prompt}/{chosen}>{rejected}")
    stored = {name: next(r for r in rows if r["prompt_id"] == prompt) for name, rows in tables(plan).items()}
    assert found["prompt"]["prompt"] == stored["prompts"]["prompt"]
    assert found["seed"] == sampling_seed(3, "sample", prompt)
    assert list(found["candidates"]) == [str(chosen), str(rejected)]
    for index in (chosen, rejected):
        told = found["candidates"][str(index)]
        assert told["response"] == stored["sample"]["responses"][index]
        assert told["logprob"] == stored["sample"]["logprobs"][index]
        assert told["reward"] == stored["score"]["rewards"][index]
        assert told["finish_reason"] in ("stop", "length")
        assert stored["select"]["accepted"][told["accepted_as"]] == index
    assert found["pair"]["margin"] == row["margins"][0] and found["pair"]["label_source"] == "reward"
    assert found["candidates"][str(chosen)]["reward"] > found["candidates"][str(rejected)]["reward"]
    for name in stored:
        record = found["stages"][name]
        assert record["made_from"] == plan.identities[name] and record["committed"]
        shard = plan.artifacts[name].shards.read(record["shard"]).column("prompt_id").to_pylist()
        assert prompt in shard


def test_it_comes_from_the_records_and_not_from_the_configuration(plan: Plan) -> None:
    row, chosen, rejected = a_pair(plan)
    (plan.config.root / "config.yaml").write_text("nothing: here")
    found = trace(plan.config.root, f"{row['prompt_id']}/{chosen}>{rejected}")
    assert found["stages"]["select"]["made_from"]["select"]["beta"] == 0.1
    assert found["stages"]["score"]["made_from"]["reward"]["function"].endswith(":cheerful")


def test_ids_are_paths_to_prompts_candidates_and_pairs(plan: Plan) -> None:
    row, chosen, rejected = a_pair(plan)
    whole = trace(plan.config.root, row["prompt_id"])
    one = trace(plan.config.root, f"{row['prompt_id']}/{chosen}")
    assert len(whole["candidates"]) == 16 and whole["pair"] is one["pair"] is None
    assert one["candidates"] == {str(chosen): whole["candidates"][str(chosen)]}
    assert PairPath.parse("p17/3>5") == PairPath("p17", (3, 5))


@pytest.fixture
def evaluated(settings: dict, tmp_path: Path) -> Plan:
    """A run whose baseline has answered held-out prompts; its answers stand in for the policy's, too."""
    from rich.console import Console

    from rayflow.pipeline.execute import Pipeline
    from rayflow.pipeline.runner import LocalRunner

    path = tmp_path / "held-out.jsonl"
    path.write_text(json.dumps({"prompt": "What is kept?"}))
    settings["prompts"]["evaluation"] = {"path": str(path)}
    settings["evaluate"] = {"num_samples": 3}
    config = RunConfig.model_validate(settings)
    run_data(config)
    plan = build_run_plan(config)
    asked = ("eval-prompts", "eval-sample-sft", "eval-score-sft")
    Pipeline(plan, LocalRunner(config.compute), Console(quiet=True)).run(only=asked)
    for stage in asked[1:]:
        shutil.copytree(plan.artifacts[stage].folder, plan.artifacts[stage.replace("sft", "policy")].folder)
    return plan


def test_a_held_out_prompt_is_told_with_what_both_sides_answered(evaluated: Plan) -> None:
    """The report heads its responses side by side with such ids."""
    root, artifacts = evaluated.config.root, evaluated.artifacts
    (answered,) = artifacts["eval-sample-sft"].shards.read(0).to_pylist()
    (scored,) = artifacts["eval-score-sft"].shards.read(0).to_pylist()
    prompt = answered["prompt_id"]
    found = trace(root, prompt)
    assert found["prompt"]["prompt"] == "What is kept?" and found["candidates"] == {}
    for side in ("policy", "baseline"):
        told = found["held_out"][side]
        assert [told[str(i)]["response"] for i in range(3)] == answered["responses"]
        assert [told[str(i)]["reward"] for i in range(3)] == scored["rewards"]
    assert "train" not in found["stages"] and "eval-score-policy" in found["stages"]
    one = trace(root, f"{prompt}/1")["held_out"]
    assert list(one["policy"]) == list(one["baseline"]) == ["1"]
    with pytest.raises(DataError, match="is held out, with responses 3 of the policy and 3 of the baseline"):
        trace(root, f"{prompt}/3")
    with pytest.raises(DataError, match="is held out, so nothing is paired"):
        trace(root, f"{prompt}/0>1")
    text = CliRunner().invoke(app, ["lineage", str(root), prompt]).output
    assert "What is kept?" in text and "policy" in text and answered["responses"][2][:10] in text
    assert f"policy, response 1\n  | {answered['responses'][1]}" in "\n".join(
        lineage_lines(trace(root, f"{prompt}/1"))
    )


def test_of_several_rewards_of_an_evaluation_the_first_one_is_told() -> None:
    rows = {
        "policy-sample": {"responses": ["a", "b"]},
        "baseline-encode": {"responses": ["c"]},
        "policy-score-proxy": {"rewards": [1.0, 2.0]},
        "policy-score-gold": {"rewards": [8.0, 9.0]},
        "verdict-gold": {"win_rate": 0.25, "policy_rewards": [5.0, 6.0], "baseline_rewards": [7.0]},
        "kl-sample": {"responses": ["no"]},
    }
    told = held_out(rows, "p", (), lambda columns, i: {k: columns[k][i] for k in ("responses", "rewards")})
    assert told == {
        "policy": {"0": {"responses": "a", "rewards": 1.0}, "1": {"responses": "b", "rewards": 2.0}},
        "baseline": {"0": {"responses": "c", "rewards": 7.0}},
        "verdicts": {"verdict-gold": {"win_rate": 0.25}},
    }


def test_what_is_not_there_is_a_sentence(plan: Plan, tmp_path: Path) -> None:
    row, chosen, rejected = a_pair(plan)
    prompt, root = row["prompt_id"], plan.config.root
    for text, message in {
        "p/3/5": "is not an id. Ids are paths",
        "nobody/1>2": "has no prompt 'nobody'",
        f"{prompt}/99": "has candidates 0 to 15, not 99",
        f"{prompt}/{rejected}>{chosen}": f"has no pair {rejected}>{chosen}. Its pairs: {chosen}>{rejected}",
    }.items():
        with pytest.raises(DataError, match=message):
            trace(root, text)
    with pytest.raises(ArtifactError, match="is not a run's folder"):
        trace(tmp_path, f"{prompt}/1")


def test_given_responses_have_a_lineage_too(settings: dict, tmp_path: Path, tiny_model: str) -> None:
    from rich.console import Console

    from rayflow.pipeline.execute import Pipeline
    from rayflow.pipeline.runner import LocalRunner

    path = tmp_path / "pairs.jsonl"
    path.write_text(json.dumps({"prompt": "The sky is", "chosen": " blue.", "rejected": " green."}))
    given = {k: v for k, v in settings.items() if k not in ("select", "sample")}
    given |= {"source": "direct", "model": tiny_model, "prompts": {"train": {"path": str(path)}}}
    config = RunConfig.model_validate(given)
    Pipeline(build_run_plan(config), LocalRunner(config.compute), Console(quiet=True)).run(
        only=("prompts", "encode")
    )
    (row,) = build_run_plan(config).artifacts["encode"].shards.read(0).to_pylist()
    found = trace(config.root, f"{row['prompt_id']}/0>1")
    assert found["candidates"]["0"]["response"] == " blue." and found["candidates"]["0"]["reward"] is None
    assert found["pair"]["label_source"] == "data" and found["seed"] is None
    json.dumps(found, allow_nan=False)


def test_of_two_stages_of_a_name_the_one_that_was_begun_last_counts(plan: Plan) -> None:
    """A changed plan numbers its stages anew and leaves the old ones."""
    row, chosen, rejected = a_pair(plan)
    name = f"{row['prompt_id']}/{chosen}>{rejected}"
    before = trace(plan.config.root, name)
    score = plan.artifacts["score"].folder
    old = plan.config.root / "99-score"
    (old / "shards").mkdir(parents=True)
    shutil.copy(score / "stage.json", old)
    os.utime(old / "stage.json", ns=(0, 0))
    assert trace(plan.config.root, name) == before


def test_a_person_and_a_machine_can_read_it(plan: Plan) -> None:
    row, chosen, rejected = a_pair(plan)
    arguments = ["lineage", str(plan.config.root), f"{row['prompt_id']}/{chosen}>{rejected}"]
    text = CliRunner().invoke(app, arguments).output
    for words in (
        f"candidate {chosen}, chosen",
        f"candidate {rejected}, rejected",
        "sample.temperature",
        "margin",
    ):
        assert words in text
    assert "cheerful" in text and "shard" in text
    found = json.loads(CliRunner().invoke(app, [*arguments, "--json"]).output)
    assert found == trace(plan.config.root, arguments[2])


def test_a_prompt_is_told_with_a_line_for_each_candidate(plan: Plan) -> None:
    row, chosen, _ = a_pair(plan)
    prompt, root = row["prompt_id"], str(plan.config.root)
    text = CliRunner().invoke(app, ["lineage", root, prompt], env={"COLUMNS": "150"}).output
    head = next(i for i, line in enumerate(text.splitlines()) if line.startswith("candidate "))
    lines = text.splitlines()[head + 1 : head + 17]
    stored = {name: next(r for r in rows if r["prompt_id"] == prompt) for name, rows in tables(plan).items()}
    assert [int(line.split()[0]) for line in lines] == list(range(16))
    for index, line in enumerate(lines):
        assert stored["sample"]["responses"][index][:60].strip() in line
    order = {int(line.split()[0]): line.split()[3] for line in lines if re.search(r"\d\. ", line)}
    assert order[chosen] == f"{list(stored['select']['accepted']).index(chosen) + 1}."
    assert f"A candidate in full: {prompt}/0" in text and "finish_reason" not in text


def test_a_response_cannot_steer_the_terminal(plan: Plan) -> None:
    row, chosen, rejected = a_pair(plan)
    found = trace(plan.config.root, f"{row['prompt_id']}/{chosen}>{rejected}")
    found["candidates"][str(chosen)]["response"] = "\x1b[2Jgone\n" + "x" * 5000
    lines = lineage_lines(found)
    assert "\x1b" not in "".join(lines) and any("more signs" in line for line in lines)
