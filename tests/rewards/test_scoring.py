"""How scores are asked for, whatever a reward tells with them, and what an unfinished response costs."""

from __future__ import annotations

import asyncio
from typing import Any

import numpy as np
import pytest

from rayflow.config import PoolOptions
from rayflow.core.options import KindOptions, build
from rayflow.core.rows import Prompt, Responses
from rayflow.errors import ConfigError, RewardError
from rayflow.pipeline.stages.score import ScoreStage
from rayflow.rewards.base import ByOrder, ComponentRewards, PointwiseOptions
from rayflow.rewards.ensemble import EnsembleReward
from rayflow.rewards.ranker import RankerReward
from rayflow.rewards.rule import RuleReward
from rayflow.rewards.scoring import missing_eos_penalty, penalty_in, scored, scores_of

HERE = "tests.rewards.test_scoring"
PROMPT = Prompt(prompt_id="p", prompt="Say", messages=(), target=None)
TEXTS = ["good", "bad", "good"]
CUT = np.array([False, False, True])
LENGTH = {"kind": "rule", "function": f"{HERE}:length"}


def length(prompt: str, response: str) -> float:
    return len(response)


def rule(penalty: float) -> RuleReward:
    return build("reward", RuleReward.Config(**LENGTH, missing_eos_penalty=penalty))


class Own:
    """A reward of someone's own, with what all of them need."""

    models = ()

    def __init__(self, options: KindOptions) -> None:
        self.options = options

    def setup(self) -> None:
        pass

    def score(self, prompt: Any, responses: Any) -> Any:
        return [0.0] * len(responses)


class Parts(Own):
    """Two parts, told as lists."""

    class Config(PointwiseOptions):
        kind: str = f"{HERE}:Parts"

    components = ("length", "nothing")

    def score_components(self, prompt: Any, responses: Any) -> ComponentRewards:
        lengths, nothing = [len(text) for text in responses], self.score(prompt, responses)
        return ComponentRewards(lengths, (lengths, nothing), np.var([lengths, nothing], axis=0))


class Compares(Own):
    """Prefers nothing, in either order, and has a setting that it cannot have."""

    class Config(PointwiseOptions):
        kind: str = f"{HERE}:Compares"

    pairwise = orders = True

    def score_orders(self, prompt: Any, responses: Any) -> ByOrder:
        return ByOrder(np.zeros(len(responses)), np.full((1, 2), 0.5))


def test_a_response_that_was_cut_loses_the_penalty_and_no_other_does():
    assert scores_of(rule(1.5), PROMPT, TEXTS, CUT).tolist() == [4.0, 3.0, 2.5]


def test_without_a_penalty_or_without_a_word_of_cuts_a_text_is_judged_as_it_stands():
    assert scores_of(rule(0.0), PROMPT, TEXTS, CUT).tolist() == [4.0, 3.0, 4.0]
    assert scores_of(rule(1.5), PROMPT, TEXTS).tolist() == [4.0, 3.0, 4.0]


def test_a_reward_of_parts_loses_it_from_the_whole():
    reward = build("reward", Parts.Config(missing_eos_penalty=1.5))
    found = scored(reward, PROMPT, TEXTS, CUT)
    assert found.rewards.tolist() == scores_of(reward, PROMPT, TEXTS, CUT).tolist() == [4.0, 3.0, 2.5]
    assert [part.tolist() for part in found.parts] == [[4.0, 3.0, 4.0], [0.0, 0.0, 0.0]]
    assert found.variances.tolist() == [4.0, 2.25, 4.0]


@pytest.mark.parametrize("options", [RuleReward.Config, Parts.Config])
def test_what_is_stored_is_less_the_penalty(options: type[PointwiseOptions]) -> None:
    own = LENGTH if options is RuleReward.Config else {}
    stage = ScoreStage("score", (), options(**own, missing_eos_penalty=1.5), PoolOptions())
    ended = ("stop", "stop", "length")
    row = Responses(**vars(PROMPT), responses=tuple(TEXTS), finish_reasons=ended)
    stage.setup()
    (found,) = asyncio.run(stage.process([row]))
    assert found.rewards.tolist() == [4.0, 3.0, 2.5]


def test_the_penalty_of_a_member_enters_the_sum_with_its_weight():
    members = [
        {"reward": {**LENGTH, "missing_eos_penalty": 1.5}, "weight": 2.0},
        {"reward": LENGTH, "weight": 1.0, "name": "plain"},
    ]
    ensemble = build("reward", EnsembleReward.Config(members=members))
    assert scores_of(ensemble, PROMPT, TEXTS, CUT).tolist() == [12.0, 9.0, 9.0]
    assert ensemble.score_components(PROMPT, TEXTS, CUT).parts[0].tolist() == [4.0, 3.0, 2.5]


def test_what_compares_has_no_score_to_take_a_penalty_from():
    fine = build("reward", Compares.Config())
    assert missing_eos_penalty(fine) == 0.0 and scored(fine, PROMPT, TEXTS).orders.tolist() == [[0.5, 0.5]]
    wrong = Compares.Config(missing_eos_penalty=1.0)
    with pytest.raises(ConfigError, match=f"Reward '{HERE}:Compares' compares .*=1 is taken from.*Remove"):
        scored(build("reward", wrong), PROMPT, TEXTS, CUT)
    members = [{"reward": wrong.model_dump()}, {"reward": LENGTH}]
    with pytest.raises(ConfigError, match="give it to a member that scores single responses"):
        build("reward", EnsembleReward.Config(members=members))


@pytest.mark.parametrize(
    ("given", "said"), [([1.0], r"the shape \(1,\) for 3"), ([0.0, np.inf, 0.0], "inf for candidate 1")]
)
def test_scores_that_are_asked_for_alone_are_one_finite_number_each(
    monkeypatch: pytest.MonkeyPatch, given: list[float], said: str
) -> None:
    monkeypatch.setattr(Own, "score", lambda *_: given)
    with pytest.raises(RewardError, match=said):
        scores_of(Own(KindOptions(kind="own")), PROMPT, TEXTS)


def test_the_penalty_of_settings_is_the_largest_in_them() -> None:
    members = [{"reward": LENGTH, "name": "a"}, {"reward": {**LENGTH, "missing_eos_penalty": 2.0}}]
    assert penalty_in(EnsembleReward.Config(members=members)) == 2.0
    assert penalty_in(RuleReward.Config(**LENGTH)) == 0.0
    for without in (None, KindOptions(kind="own"), RankerReward.Config(model="m")):
        assert penalty_in(without) is None
