"""Responses that the sampler cut: told to the rewards that ask, counted in the summary."""

from __future__ import annotations

import asyncio
from pathlib import Path

import numpy as np
import pytest

from rayflow.config import PoolOptions, RunConfig
from rayflow.core.files import read_json
from rayflow.core.options import KindOptions
from rayflow.core.rows import Example
from rayflow.pipeline.plan import build_plan
from rayflow.pipeline.report import report
from rayflow.pipeline.stages.judge import JudgeStage
from tests.pipeline.helpers import run_data, tables
from tests.pipeline.test_given import RRHF, plan_of, run
from tests.pipeline.test_resample import TOO_MANY, finish

CUT = {"kind": "tests.pipeline.test_cut:Cut"}
ENSEMBLE = {"kind": "ensemble", "members": [{"reward": CUT, "weight": 2.0}]}


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


def was_cut(row: dict) -> list[float]:
    return [float(reason == "length") for reason in row["finish_reasons"]]


@pytest.mark.parametrize(("reward", "weight"), [(CUT, 1.0), (ENSEMBLE, 2.0)], ids=["alone", "member"])
def test_a_reward_that_asks_is_told_which_candidates_were_cut(settings: dict, reward: dict, weight) -> None:
    plan, _ = run_data(RunConfig.model_validate({**settings, "reward": reward}))
    stored = tables(plan)
    for sampled, scored in zip(stored["sample"], stored["score"], strict=True):
        assert scored["rewards"] == [weight * value for value in was_cut(sampled)]
    assert {value for row in stored["sample"] for value in was_cut(row)} == {0.0, 1.0}


@pytest.mark.parametrize("reward", [CUT, ENSEMBLE], ids=["alone", "member"])
def test_it_is_told_so_of_further_draws_too(settings: dict, reward: dict) -> None:
    plan = finish(RunConfig.model_validate({**settings, "reward": reward, "select": TOO_MANY}))
    stored = tables(plan)
    for sampled, scored in zip(stored["sample"], stored["score"], strict=True):
        assert np.sign(scored["rewards"]).tolist() == was_cut(sampled) and len(scored["rewards"]) == 48


def test_targets_are_complete(settings: dict) -> None:
    prompts = {**settings["prompts"], "evaluation": settings["prompts"]["train"]}
    changes = {"prompts": prompts, "evaluate": {"baseline": "target"}}
    stages = build_plan(RunConfig.model_validate({**settings, **changes})).stages
    assert stages["eval-score-policy"].sampled and not stages["eval-score-target"].sampled


def test_the_summary_has_the_share_of_cut_candidates_and_accepted(settings: dict) -> None:
    plan, _ = run_data(RunConfig.model_validate(settings))
    report(plan)
    stored = tables(plan)
    cut = {row["prompt_id"]: was_cut(row) for row in stored["sample"]}
    accepted = [cut[row["prompt_id"]][i] for row in stored["select"] for i in row["accepted"]]
    found = read_json(plan.config.root / "summary.json")["selection"]
    assert found["cut_candidates"] == pytest.approx(np.mean(list(cut.values())))
    assert found["cut_accepted"] == pytest.approx(np.mean(accepted)) and 0 < np.mean(accepted) < 1


def test_given_responses_are_scored_as_their_data_says_they_ended(tmp_path: Path, tiny_model: str) -> None:
    rows = [
        {"prompt": f"Number {i}: ", "responses": ["a joy", "dull", "fine"], "finish_reasons": reasons}
        for i, reasons in enumerate((["stop", "length", "stop"], ["length", "length", "stop"]))
    ]
    plan = plan_of(tmp_path, tiny_model, [row | {"pairs": [[0, 1]]} for row in rows], train=RRHF, reward=CUT)
    run(plan)
    assert [row["rewards"] for row in tables(plan)["score"]] == [was_cut(row) for row in rows]


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
