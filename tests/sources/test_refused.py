"""Rows whose context a text cannot hold, or whose prompt is half an answer: refused, never read as something else."""

from __future__ import annotations

import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from rayflow.config import PromptSource
from rayflow.core.given_rows import Example
from rayflow.core.rows import Failure, Prompt
from rayflow.sources.read import read

ASK, BEGUN, SUN, RAIN = (
    {"role": role, "content": content}
    for role, content in (
        ("user", "Weather?"),
        ("assistant", "Sure,"),
        ("assistant", "sun"),
        ("assistant", "rain"),
    )
)
CALL = {
    "role": "assistant",
    "content": "",
    "tool_calls": [{"function": {"name": "weather", "arguments": {}}}],
}
OLD_CALL = {"role": "assistant", "content": "", "function_call": {"name": "weather", "arguments": "{}"}}
FORMS = {
    "prompts": {"prompt": [ASK]},
    "trl": {"prompt": [ASK], "chosen": [SUN], "rejected": [RAIN]},
    "trl-text": {"prompt": "Weather?", "chosen": "sun", "rejected": "rain"},
    "ultrafeedback": {"prompt": "Weather?", "chosen": [ASK, SUN], "rejected": [ASK, RAIN]},
    "groups": {"prompt": "Weather?", "responses": ["sun", "rain"], "pairs": [[0, 1]]},
    "ranked": {"messages": [ASK], "responses": ["sun", "rain"]},
}
each_form = pytest.mark.parametrize("row", FORMS.values(), ids=FORMS)


def found(folder: Path, *rows: dict) -> list[Example | Failure]:
    path = folder / "rows.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return list(read(PromptSource(path=str(path))))


@each_form
@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("tools", [{"name": "weather"}]),
        ("tools", '[{"name": "weather"}]'),
        ("images", ["a.png"]),
        ("image", "a.png"),
    ],
)
def test_a_row_with_tools_or_images_is_refused(tmp_path: Path, row: dict, key: str, value: object) -> None:
    (failure,) = found(tmp_path, {**row, key: value})
    assert failure.reason == "tools or images"
    assert f"rows.jsonl, row 1: the row has '{key}', which is not read" in failure.detail


@each_form
def test_columns_that_hold_nothing_are_no_tools(tmp_path: Path, row: dict) -> None:
    """Data sets fill them in everywhere, some at depth and some as text."""
    nothing = {"tools": [], "images": None, "image": "", "tool_calls": "[]", "function_call": {"name": None}}
    (made,) = found(tmp_path, {**row, **nothing})
    assert isinstance(made, Example)


@pytest.mark.parametrize("call", [CALL, OLD_CALL], ids=["tool_calls", "function_call"])
@pytest.mark.parametrize(
    "make",
    [
        lambda turns: {"messages": [*turns, SUN]},
        lambda turns: {"prompt": turns, "chosen": [SUN], "rejected": [RAIN]},
        lambda turns: {"chosen": [*turns, SUN], "rejected": [*turns, RAIN]},
        lambda turns: {"prompt": "Weather?", "chosen": [*turns, SUN], "rejected": [*turns, RAIN]},
        lambda turns: {"prompt": turns, "responses": ["sun", "rain"], "pairs": [[0, 1]]},
        lambda turns: {"prompt": turns, "responses": ["sun", "rain"]},
    ],
    ids=["messages", "trl", "implicit", "ultrafeedback", "groups", "ranked"],
)
def test_a_turn_that_calls_a_tool_is_refused(tmp_path: Path, make: object, call: dict) -> None:
    (failure,) = found(tmp_path, make([ASK, call, {"role": "tool", "content": "sunny"}]))
    key = "tool_calls" if call is CALL else "function_call"
    assert failure.reason == "tools or images" and f"has '{key}'" in failure.detail


def test_null_calls_of_a_parquet_file_are_no_calls(tmp_path: Path) -> None:
    """One row that calls gives the column to every turn of the file, as null or as a struct of nulls."""
    rows = [
        {"messages": [ASK, {**SUN, "tool_calls": [], "function_call": None}]},
        {"messages": [ASK, OLD_CALL, {**SUN, "tool_calls": None}]},
    ]
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "rows.parquet")
    kept, refused = read(PromptSource(path=str(tmp_path / "rows.parquet")))
    assert kept.target == "sun" and refused.reason == "tools or images"


@pytest.mark.parametrize(
    "row",
    [
        {"prompt": [ASK, BEGUN], "chosen": [SUN], "rejected": [RAIN]},
        {"prompt": [ASK, BEGUN], "chosen": "sun", "rejected": "rain"},
        {"messages": [ASK, BEGUN], "chosen": [SUN], "rejected": [RAIN]},
        {"chosen": [ASK, BEGUN, SUN], "rejected": [ASK, BEGUN, RAIN]},
        {"prompt": "Weather?", "chosen": [ASK, BEGUN, SUN], "rejected": [ASK, BEGUN, RAIN]},
        {"prompt": [ASK, BEGUN], "responses": ["sun", "rain"], "pairs": [[0, 1]]},
        {"messages": [ASK, BEGUN], "responses": ["sun", "rain"]},
    ],
    ids=["trl", "trl-text", "trl-messages", "implicit", "ultrafeedback", "groups", "ranked"],
)
@pytest.mark.parametrize("record", [Example, Prompt])
def test_a_response_is_never_a_second_turn_of_the_assistant(tmp_path: Path, row: dict, record: type) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text(json.dumps(row))
    (failure,) = read(PromptSource(path=str(path)), record)
    assert failure.reason == "prompt ends with an answer"
    assert "put its text in front of every response" in failure.detail


def test_the_last_turn_of_prompts_is_still_their_target(tmp_path: Path) -> None:
    (row,) = found(tmp_path, {"messages": [ASK, SUN]})
    assert (row.messages, row.target) == ((ASK,), "sun")
