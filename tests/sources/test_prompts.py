"""The layout of prompts and supervised data."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from rayflow.config import PromptSource
from rayflow.core.given_rows import Example
from rayflow.core.rows import Failure, Prompt
from rayflow.errors import DataError
from rayflow.sources.prompts import parse_prompt
from rayflow.sources.read import read

TURNS = [{"role": "user", "content": "hi"}, {"role": "assistant", "content": "hello"}]


def test_a_final_assistant_turn_is_the_target() -> None:
    row = parse_prompt({"messages": TURNS})
    assert row.messages == (TURNS[0],) and row.target == "hello"
    assert row.responses == () and row.pairs == () and row.rewards.shape == (0,)


def test_a_given_target_stands_before_the_final_turn() -> None:
    row = parse_prompt({"messages": TURNS, "target": "hey"})
    assert (row.messages, row.target) == ((TURNS[0],), "hey")


@pytest.mark.parametrize("completion", [" blue.", [{"role": "assistant", "content": " blue."}]])
def test_a_completion_is_a_target_in_either_form(completion: object) -> None:
    assert parse_prompt({"prompt": "The sky is", "completion": completion}).target == " blue."


def test_a_completion_that_is_labelled_as_not_desired_is_no_target() -> None:
    """TRL's unpaired preferences: their prompts serve, and the desired ones are supervised data."""
    found = [
        parse_prompt({"prompt": "The sky is", "completion": " blue.", "label": label})
        for label in (True, False)
    ]
    assert [row.target for row in found] == [" blue.", None] and found[1].prompt == "The sky is"


def test_the_whole_conversation_is_taken_where_a_row_has_its_first_turn_too() -> None:
    row = parse_prompt({"prompt": "hi", "messages": TURNS})
    assert (row.prompt, row.messages, row.target) == (None, (TURNS[0],), "hello")


def test_a_null_column_is_no_value() -> None:
    assert parse_prompt({"prompt": None, "messages": TURNS[:1], "target": None}).messages == (TURNS[0],)
    assert parse_prompt({"prompt": "hi", "messages": None}).prompt == "hi"


@pytest.mark.parametrize(
    "row, reason, problem",
    [
        ({"promt": "a"}, "missing key", "needs 'messages' or 'prompt', has promt .is 'prompt' misspelt"),
        ({"prompt": "  "}, "empty prompt", "is empty"),
        ({"prompt": 7}, "wrong type", "must be text or a list of messages, is int"),
        ({"messages": []}, "empty prompt", "is empty"),
        ({"messages": TURNS[1:]}, "empty prompt", "an answer without a prompt"),
        ({"messages": [{"role": "user"}]}, "wrong type", "needs a 'role' and a text 'content'"),
        ({"messages": [{"role": "usr", "content": "a"}]}, "wrong type", "unknown role 'usr'"),
        ({"prompt": "half of \ud800 a pair"}, "not Unicode text", "not valid Unicode text"),
        ({"messages": [{"role": "user", "content": "\ud800"}]}, "not Unicode text", "messages.content"),
        ({"prompt": "a", "target": "\ud800"}, "not Unicode text", "not valid Unicode text"),
        ({"prompt": "a", "target": 3}, "wrong type", "'target' must be text"),
        ({"prompt": "a", "completion": TURNS}, "a response of several turns", "must be one turn, is 2"),
    ],
)
def test_rows_that_cannot_be_used_say_why(row: dict, reason: str, problem: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=problem):
        parse_prompt(row)
    path = tmp_path / "p.jsonl"
    path.write_text(json.dumps(row))
    for record in (Prompt, Example):
        (failure,) = read(PromptSource(path=str(path), layout="prompts"), record)
        assert isinstance(failure, Failure) and failure.reason == reason
        assert str(path) in failure.detail and "row 1" in failure.detail
