"""What every reward that scores one response at a time can be set to."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from rayflow.rewards.http import HttpReward
from rayflow.rewards.rule import RuleReward

RULE = {"kind": "rule", "function": "tests.rewards.test_scoring:length"}


def test_a_penalty_is_no_bonus():
    with pytest.raises(ValidationError, match="missing_eos_penalty"):
        RuleReward.Config(**RULE, missing_eos_penalty=-1.0)


@pytest.mark.parametrize(
    "options", [RuleReward.Config(**RULE), HttpReward.Config(url="http://127.0.0.1:1/score")]
)
def test_the_penalty_is_part_of_what_a_reward_is_once_there_is_one(options):
    assert "missing_eos_penalty" not in options.identity()
    assert options.model_copy(update={"missing_eos_penalty": 1.0}).identity()["missing_eos_penalty"] == 1.0
