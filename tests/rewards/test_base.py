"""What every reward has in common: how its scores are asked for, and what an unfinished response costs."""

from __future__ import annotations

import numpy as np
import pytest
from pydantic import ValidationError

from rayflow.core.options import build
from rayflow.core.rows import Prompt
from rayflow.rewards.base import scores_of
from rayflow.rewards.http import HttpReward
from rayflow.rewards.rule import RuleReward

PROMPT = Prompt(prompt_id="p", prompt="Say", messages=(), target=None)
TEXTS = ["good", "bad", "good"]
CUT = np.array([False, False, True])
LENGTH = {"kind": "rule", "function": "tests.rewards.test_base:length"}


def length(prompt: str, response: str) -> float:
    return len(response)


def rule(penalty: float) -> RuleReward:
    return build("reward", RuleReward.Config(**LENGTH, missing_eos_penalty=penalty))


def test_a_response_that_was_cut_loses_the_penalty_and_no_other_does():
    assert scores_of(rule(1.5), PROMPT, TEXTS, CUT).tolist() == [4.0, 3.0, 2.5]


def test_without_a_penalty_or_without_a_word_of_cuts_a_text_is_judged_as_it_stands():
    assert scores_of(rule(0.0), PROMPT, TEXTS, CUT).tolist() == [4.0, 3.0, 4.0]
    assert scores_of(rule(1.5), PROMPT, TEXTS).tolist() == [4.0, 3.0, 4.0]


def test_the_penalty_of_a_member_enters_the_sum_with_its_weight():
    from rayflow.rewards.ensemble import EnsembleReward

    members = [
        {"reward": {**LENGTH, "missing_eos_penalty": 1.5}, "weight": 2.0},
        {"reward": LENGTH, "weight": 1.0, "name": "plain"},
    ]
    ensemble = build("reward", EnsembleReward.Config(members=members))
    assert scores_of(ensemble, PROMPT, TEXTS, CUT).tolist() == [12.0, 9.0, 9.0]
    assert ensemble.score_components(PROMPT, TEXTS, CUT).parts[0].tolist() == [4.0, 3.0, 2.5]


def test_a_penalty_is_no_bonus():
    with pytest.raises(ValidationError, match="missing_eos_penalty"):
        rule(-1.0)


@pytest.mark.parametrize(
    "options", [RuleReward.Config(**LENGTH), HttpReward.Config(url="http://127.0.0.1:1/score")]
)
def test_the_penalty_is_part_of_what_a_reward_is_once_there_is_one(options):
    assert "missing_eos_penalty" not in options.identity()
    assert options.model_copy(update={"missing_eos_penalty": 1.0}).identity()["missing_eos_penalty"] == 1.0
