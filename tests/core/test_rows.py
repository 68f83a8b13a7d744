"""Rows: their text, and that they do not change."""

from __future__ import annotations

from dataclasses import FrozenInstanceError, fields

import numpy as np
import pytest

from rayflow.core import rows
from rayflow.core.rows import Prompt

HELLO = ({"role": "user", "content": "Hello"},)


def test_the_text_of_a_prompt_is_its_plain_text_or_its_turns():
    turns = ({"role": "system", "content": "Be brief."}, *HELLO)
    assert Prompt(prompt_id="a", prompt="", messages=turns, target=None).text == ""
    assert (
        Prompt(prompt_id="a", prompt=None, messages=turns, target=None).text
        == "system: Be brief.\nuser: Hello"
    )


def test_rows_are_frozen():
    prompt = Prompt(prompt_id="a", prompt="x", messages=(), target=None)
    with pytest.raises(FrozenInstanceError):
        prompt.target = "y"


def test_a_view_holds_the_fields_of_all_its_records_once():
    names = [field.name for field in fields(rows.PreferenceGroup)]
    parts = [rows.Prompt, rows.Candidates, rows.Scores, rows.Accepted, rows.PreferencePairs]
    assert len(set(names)) == len(names)
    assert set(names) == {field.name for part in parts for field in fields(part)}


def test_a_value_can_be_left_out_of_no_record():
    with pytest.raises(TypeError, match="rewards"):
        rows.Scored(
            prompt_id="a",
            prompt="x",
            messages=(),
            target=None,
            prompt_token_ids=np.array([1], np.int32),
            responses=("y",),
            token_ids=(np.array([2], np.int32),),
            logprobs=np.array([-1.0], np.float32),
            finish_reasons=("stop",),
            seed=0,
        )
