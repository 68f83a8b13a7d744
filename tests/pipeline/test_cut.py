"""Responses that the sampler cut: told to the rewards that ask, counted in the summary."""

from __future__ import annotations

import asyncio
import json
from collections import defaultdict
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

from rayflow.config import PoolOptions, PromptSource, RunConfig
from rayflow.config.evaluate import EvaluateConfig
from rayflow.config.reward import RewardConfig
from rayflow.core.files import read_json
from rayflow.core.given_rows import Example
from rayflow.core.model_folder import load_tokenizer
from rayflow.core.options import KindOptions
from rayflow.core.stats import sigmoid
from rayflow.pipeline.commands import make_runner
from rayflow.pipeline.evaluation_plan import build_evaluation_plan
from rayflow.pipeline.execute import Pipeline
from rayflow.pipeline.export import write_trl
from rayflow.pipeline.report import report
from rayflow.pipeline.reward_plan import build_reward_plan
from rayflow.pipeline.stages.judge import JudgeStage
from rayflow.rewards.pairwise import Pairwise, PairwiseOptions
from rayflow.sources.read import read
from tests.pipeline.evaluation_helpers import evaluation_settings
from tests.pipeline.helpers import run_data, tables
from tests.pipeline.reward_helpers import reward_settings
from tests.pipeline.test_given import RRHF, plan_of, run
from tests.pipeline.test_resample import TOO_MANY, finish

CUT = {"kind": "tests.pipeline.test_cut:Cut"}
ENSEMBLE = {"kind": "ensemble", "members": [{"reward": CUT, "weight": 2.0}]}
PENALTY = {"kind": "rule", "function": "tests.pipeline.test_cut:nothing", "missing_eos_penalty": 3.0}


def nothing(prompt: str, response: str) -> float:
    return 0.0


class Cut:
    """1 for a response that was cut, else 0."""

    class Config(KindOptions):
        kind: str = CUT["kind"]

    models = ()
    reads_cut = True

    def __init__(self, options: KindOptions) -> None:
        self.options = options

    def setup(self) -> None:
        pass

    def score(self, prompt, responses, cut=None):
        return np.zeros(len(responses)) if cut is None else cut.astype(np.float64)


class Even(Pairwise):
    """Prefers nothing."""

    class Config(PairwiseOptions):
        kind: str = "tests.pipeline.test_cut:Even"

    models = ()

    def setup(self) -> None:
        pass

    def judge(self, prompt, responses, pairs):
        return np.full(len(pairs), 0.5)


def was_cut(row: dict) -> list[float]:
    return [float(reason == "length") for reason in row["finish_reasons"]]


@pytest.mark.parametrize(
    ("reward", "weight"),
    [(CUT, 1.0), (ENSEMBLE, 2.0), (PENALTY, -3.0)],
    ids=["alone", "member", "penalty"],
)
def test_a_reward_that_asks_is_told_which_candidates_were_cut(settings: dict, reward: dict, weight) -> None:
    plan, _ = run_data(RunConfig.model_validate({**settings, "reward": reward}))
    stored = tables(plan)
    for sampled, scored in zip(stored["sample"], stored["score"], strict=True):
        assert scored["rewards"] == [weight * value for value in was_cut(sampled)]
    assert {value for row in stored["sample"] for value in was_cut(row)} == {0.0, 1.0}


@pytest.mark.parametrize("reward", [CUT, ENSEMBLE, PENALTY], ids=["alone", "member", "penalty"])
def test_it_is_told_so_of_further_draws_too(settings: dict, reward: dict) -> None:
    plan = finish(RunConfig.model_validate({**settings, "reward": reward, "select": TOO_MANY}))
    stored = tables(plan)
    for sampled, scored in zip(stored["sample"], stored["score"], strict=True):
        assert (
            np.abs(np.sign(scored["rewards"])).tolist() == was_cut(sampled) and len(scored["rewards"]) == 48
        )


def test_comparisons_are_told_so_too(settings: dict) -> None:
    """Labels of a pairwise ensemble: its pairwise member says nothing, so what was cut decides."""
    members = [{"reward": {"kind": "tests.pipeline.test_cut:Even"}}, {"reward": CUT, "weight": 0.1}]
    reward = {"kind": "ensemble", "members": members}
    plan, _ = run_data(RunConfig.model_validate({**settings, "reward": reward}))
    stored = tables(plan)
    margins = [
        (margin, was_cut(sampled)[chosen] - was_cut(sampled)[rejected])
        for sampled, paired in zip(stored["sample"], stored["pair"], strict=True)
        for margin, (chosen, rejected) in zip(paired["margins"], paired["pairs"], strict=True)
    ]
    assert margins and all(margin == pytest.approx(0.1 * difference) for margin, difference in margins)
    assert {difference for _, difference in margins} == {1.0}  # ties are dropped


def test_the_summary_has_the_share_of_cut_candidates_and_accepted(settings: dict) -> None:
    plan, _ = run_data(RunConfig.model_validate(settings))
    report(plan)
    stored = tables(plan)
    cut = {row["prompt_id"]: was_cut(row) for row in stored["sample"]}
    accepted = [cut[row["prompt_id"]][i] for row in stored["select"] for i in row["accepted"]]
    found = read_json(plan.config.root / "summary.json")["selection"]
    assert found["cut_candidates"] == pytest.approx(np.mean(list(cut.values())))
    assert found["cut_accepted"] == pytest.approx(np.mean(accepted)) and 0 < np.mean(accepted) < 1


@pytest.mark.parametrize(
    ("reward", "todo"),
    [
        (PENALTY, "raise the reward's missing_eos_penalty (now 3)"),
        (CUT, "Raise sample.max_tokens, or ask for"),
    ],
)
def test_a_report_knows_which_penalty_there_is(settings: dict, reward: dict, todo: str) -> None:
    plan, _ = run_data(RunConfig.model_validate({**settings, "reward": reward}))
    report(plan)
    (note,) = [each for each in read_json(plan.config.root / "summary.json")["notes"] if "were cut" in each]
    assert todo in note


def test_given_responses_are_scored_as_their_data_says_they_ended(tmp_path: Path, tiny_model: str) -> None:
    rows = [
        {"prompt": f"Number {i}: ", "responses": ["a joy", "dull", "fine"], "finish_reasons": reasons}
        for i, reasons in enumerate((["stop", "length", "stop"], ["length", "length", "stop"]))
    ]
    plan = plan_of(tmp_path, tiny_model, [row | {"pairs": [[0, 1]]} for row in rows], train=RRHF, reward=CUT)
    run(plan)
    assert [row["rewards"] for row in tables(plan)["score"]] == [was_cut(row) for row in rows]


@pytest.mark.parametrize("suffix", ["jsonl", "parquet"])
def test_what_is_exported_is_read_back_with_its_endings(settings: dict, tmp_path: Path, suffix: str) -> None:
    plan, _ = run_data(RunConfig.model_validate(settings))
    total, cut = write_trl(plan.artifacts, path := tmp_path / f"pairs.{suffix}")
    assert 0 < cut < total
    stored, told = tables(plan), defaultdict(set)
    for prompt, sampled, paired in zip(stored["prompts"], stored["sample"], stored["pair"], strict=True):
        for pair in paired["pairs"]:
            texts = tuple(sampled["responses"][i] for i in pair)
            told[prompt["prompt"], texts].add(tuple(sampled["finish_reasons"][i] for i in pair))
    found = [row for row in read(PromptSource(path=str(path))) if isinstance(row, Example)]
    assert found and all(row.finish_reasons in told[row.prompt, row.responses] for row in found)
    assert {reason for row in found for reason in row.finish_reasons} == {"stop", "length"}


def test_a_classifier_learns_no_end_of_a_text_that_was_cut(tmp_path: Path, tiny_model: str) -> None:
    rows = [
        {"prompt": f"Number {i}: ", "chosen": "a joy", "rejected": "dull", "finish_reason_chosen": reason}
        for i, reason in enumerate(("length", "stop"))
    ]
    data = tmp_path / "pairs.jsonl"
    data.write_text("".join(json.dumps(row) + "\n" for row in rows))
    settings = reward_settings(tmp_path, data, tiny_model, "classifier")
    settings["data"] = {"train": {"path": str(data)}, "evaluation": {"path": str(data)}}
    stage = build_reward_plan(RewardConfig.model_validate(settings)).stages["encode"]
    stage.setup()
    found = asyncio.run(stage.process(list(read(PromptSource(path=str(data))))))
    eos = load_tokenizer(tiny_model).eos_token_id
    assert [[ids[-1] == eos for ids in row.token_ids] for row in found] == [[False, True], [True, True]]


def test_a_trained_reward_is_judged_on_responses_as_they_ended(tiny_model: str) -> None:
    stage = JudgeStage("judge", ("prompts", "train"), tiny_model, Cut.Config(), PoolOptions())
    rows = [
        Example(
            prompt_id=str(i),
            prompt="Hello",
            messages=(),
            target=None,
            responses=("a joy", "dull"),
            pairs=(np.array([0, 1], np.int32),),
            rewards=np.full(2, np.nan),
            finish_reasons=reasons,
        )
        for i, reasons in enumerate((("length", "stop"), ("stop", "length"), ()))
    ]
    stage.setup()
    found = asyncio.run(stage.process(rows))
    stage.close()
    assert [row.margins.tolist() for row in found] == [[1.0], [-1.0], [0.0]]


@pytest.mark.parametrize("pairwise", [False, True], ids=["pointwise", "pairwise"])
def test_an_evaluation_hands_on_how_both_sides_ended(tmp_path: Path, tiny_model: str, pairwise: bool) -> None:
    """The baseline's responses are given, half of them cut; the policy's are sampled, and all cut."""
    settings = evaluation_settings(tmp_path, tiny_model, tiny_model)
    prompts = [json.loads(line) for line in Path(settings["prompts"]["path"]).read_text().splitlines()]
    given = tmp_path / "given.jsonl"
    ended = {"responses": ["good", "bad"], "finish_reasons": ["length", "stop"]}
    given.write_text("".join(json.dumps({"prompt": row["prompt"], **ended}) + "\n" for row in prompts))
    even = [{"reward": {"kind": "tests.pipeline.test_cut:Even"}}] if pairwise else []
    reward = {"kind": "ensemble", "members": [*even, {"reward": CUT}]}
    baseline = {"responses": {"path": str(given)}}
    sample = {**settings["sample"], "max_tokens": 1}
    changes = {
        "baseline": baseline,
        "sample": sample,
        "rewards": {"cut": reward},
        "kl": None,
        "side_by_side": None,
    }
    plan = build_evaluation_plan(EvaluateConfig.model_validate({**settings, **changes}))
    Pipeline(plan, make_runner(plan.config), Console(quiet=True)).run()
    stored = tables(plan)
    assert all(reason == "length" for row in stored["policy-sample"] for reason in row["finish_reasons"])
    found = plan.artifacts["measure"].manifest().extra["measures"]["rewards"]["cut"]
    assert (
        found["win_rate"]["win_rate"] == 0.75
    )  # half of the given ones ended as the policy's did, half did not
    if pairwise:
        chances = np.concatenate([row["preferred"] for row in stored["compare-cut"]])
        assert chances.mean() == pytest.approx((0.5 + sigmoid(1.0)) / 2)
