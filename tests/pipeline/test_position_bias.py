"""The judgements of both orders are stored with what they decide, and the report adds them up."""

from __future__ import annotations

import json

import numpy as np
import pytest

from rayflow.config import RunConfig
from rayflow.core.seeds import rng
from rayflow.core.stats import sigmoid
from rayflow.pipeline.report import report
from rayflow.report.data import PositionBias
from rayflow.report.summary import BIAS_WARNING, notes
from rayflow.rewards.pairwise import PairwiseByOrder, PairwiseOptions
from tests.pipeline.conftest import NUM_PROMPTS, cheerful
from tests.pipeline.helpers import run_data, tables
from tests.report.report_example import finished

HERE = "tests.pipeline.test_position_bias"
LIKING = 1.0
"""Log-odds that the judge adds to what it reads first."""


class LikesTheFirst(PairwiseByOrder):
    """Judges cheerfulness, and adds to whatever is shown first."""

    class Config(PairwiseOptions):
        kind: str = f"{HERE}:LikesTheFirst"
        liking: float = LIKING

    models = ()

    def setup(self) -> None:
        pass

    def judge_orders(self, prompt, responses, pairs):
        quality = np.array([10 * cheerful("", text) for text in responses])
        apart = quality[pairs[:, 0]] - quality[pairs[:, 1]]
        liking = self.options.liking
        return np.stack([sigmoid(apart + liking), sigmoid(apart - liking)], axis=1)


def settings_with(settings: dict, **changes: object) -> RunConfig:
    return RunConfig.model_validate({**settings, "reward": {"kind": f"{HERE}:LikesTheFirst"}, **changes})


def by_hand(texts: list[str], pairs: list[tuple[int, int]]) -> np.ndarray:
    """[m, 2]: how each pair of different texts is judged, shown first and second."""
    apart = [10 * (cheerful("", texts[i]) - cheerful("", texts[j])) for i, j in pairs if texts[i] != texts[j]]
    return np.array([(sigmoid(x + LIKING), sigmoid(x - LIKING)) for x in apart]).reshape(-1, 2)


def summary_of(plan) -> dict:
    report(plan)
    return json.loads((plan.config.root / "summary.json").read_text())


def test_the_report_tells_how_often_and_how_far_the_order_decides(settings: dict) -> None:
    plan, _ = run_data(settings_with(settings))
    stored = tables(plan)
    rewards, labels = [], []
    for sampled, scored, paired in zip(stored["sample"], stored["score"], stored["pair"], strict=True):
        texts = sampled["responses"]
        baseline = int(rng(0, "baseline", sampled["prompt_id"]).integers(len(texts)))
        judged = by_hand(texts, [(i, baseline) for i in range(len(texts)) if i != baseline])
        found = np.stack([scored["shown_first"], scored["shown_second"]], axis=1)
        assert found == pytest.approx(judged, abs=1e-6)
        rewards.append(judged)
        labels.append(np.stack([paired["shown_first"], paired["shown_second"]], axis=1))
        assert len(labels[-1]) <= 2  # of four accepted
    biases = {bias["source"]: bias for bias in summary_of(plan)["position_bias"]}
    assert set(biases) == {"rewards", "labels"}
    for source, judged in (("rewards", np.concatenate(rewards)), ("labels", np.concatenate(labels))):
        first, second = judged.T
        assert biases[source]["num_comparisons"] == len(judged) > 0
        assert biases[source]["changed"] == pytest.approx(np.mean((first > 0.5) != (second > 0.5)))
        assert biases[source]["mean_difference"] == pytest.approx(np.mean(first - second), abs=1e-6)
    assert 0 < biases["rewards"]["changed"] < 1 and biases["rewards"]["mean_difference"] > 0.1
    page = (plan.config.root / "report.html").read_text()
    assert "winner changes with the order" in page


def test_the_games_of_a_tournament_are_told_too(settings: dict) -> None:
    changes = {"select": "knockout", "pair": "none", "train": {"loss": {"kind": "cross_entropy"}}}
    plan, _ = run_data(settings_with(settings, **changes))
    (bias,) = summary_of(plan)["position_bias"]
    games = sum(len(row["shown_first"]) for row in tables(plan)["select"])
    assert (bias["source"], bias["num_comparisons"]) == ("selection", games)
    assert NUM_PROMPTS < games <= NUM_PROMPTS * 15  # fewer where two texts are equal


def test_a_judge_without_a_liking_shows_none_and_decides_what_a_biased_one_decides(settings: dict) -> None:
    fair = {"reward": {"kind": f"{HERE}:LikesTheFirst", "liking": 0.0}}
    plan, _ = run_data(settings_with(settings, **fair))
    for bias in summary_of(plan)["position_bias"]:
        assert bias["changed"] == 0 and bias["mean_difference"] == pytest.approx(0, abs=1e-7)
    biased, _ = run_data(settings_with(settings, name="biased"))
    for one, other in zip(tables(plan)["score"], tables(biased)["score"], strict=True):
        rewards = np.array([one["rewards"], other["rewards"]])
        assert np.sign(rewards[0]).tolist() == np.sign(rewards[1]).tolist()
        assert (np.abs(rewards[1]) <= np.abs(rewards[0]) + 1e-9).all()  # only less sure


def test_a_pointwise_reward_has_no_orders(config: RunConfig) -> None:
    plan, _ = run_data(config)
    assert "shown_first" not in tables(plan)["score"][0]
    assert summary_of(plan)["position_bias"] == []


def test_a_large_bias_is_a_note() -> None:
    from dataclasses import replace

    def told(changed: float) -> bool:
        bias = PositionBias(source="labels", num_comparisons=9, changed=changed, mean_difference=0.2)
        return any(
            "changes with the order" in note for note in notes(replace(finished(), position_bias=(bias,)))
        )

    assert told(BIAS_WARNING + 0.01) and not told(BIAS_WARNING)
