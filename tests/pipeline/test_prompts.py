"""Reading prompts: every supported file, duplicates, and rows that cannot be used."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from rayflow.config import PromptSource
from rayflow.core.rows import Failure, Prompt
from rayflow.errors import DataError
from rayflow.pipeline.prompts import parse_prompt, read_prompts, source_digest

ROWS = [{"prompt": "one", "target": "1"}, {"prompt": "two", "target": None}]


def texts(path: Path, **settings: object) -> list[str | None]:
    return [row.prompt for row in read_prompts(PromptSource(path=str(path), **settings))]


@pytest.fixture
def saved(tmp_path: Path) -> dict[str, Path]:
    """The same two rows in every form."""
    lines = "".join(json.dumps(row) + "\n" for row in ROWS)
    table = pa.Table.from_pylist(ROWS)
    files = {name: tmp_path / name for name in ("a.jsonl", "a.jsonl.gz", "a.parquet", "folder", "saved")}
    files["a.jsonl"].write_text(lines)
    files["a.jsonl.gz"].write_bytes(gzip.compress(lines.encode()))
    pq.write_table(table, files["a.parquet"])
    (files["folder"] / "data").mkdir(parents=True)
    pq.write_table(table, files["folder"] / "data" / "train-00000-of-00001.parquet")
    pq.write_table(table.slice(0, 1), files["folder"] / "data" / "test-00000-of-00001.parquet")
    (files["saved"] / "train").mkdir(parents=True)
    (files["saved"] / "dataset_dict.json").write_text('{"splits": ["train"]}')
    with pa.ipc.new_stream(files["saved"] / "train" / "data-00000-of-00001.arrow", table.schema) as writer:
        writer.write_table(table)
    return files


@pytest.mark.parametrize("name", ["a.jsonl", "a.jsonl.gz", "a.parquet"])
def test_files_give_the_same_rows(saved: dict[str, Path], name: str) -> None:
    assert texts(saved[name]) == ["one", "two"]
    assert texts(saved[name], limit=1) == ["one"]


def test_folders_are_read_by_split(saved: dict[str, Path]) -> None:
    assert texts(saved["folder"], split="train") == ["one", "two"]
    assert texts(saved["folder"], split="test") == ["one"]
    assert texts(saved["saved"], split="train") == ["one", "two"]
    with pytest.raises(DataError, match="set 'split' to one of train"):
        texts(saved["saved"])
    with pytest.raises(DataError, match="of split 'dev'"):
        texts(saved["folder"], split="dev")


def test_the_digest_follows_the_content(saved: dict[str, Path]) -> None:
    source = PromptSource(path=str(saved["a.jsonl"]))
    before = source_digest(source)
    assert before == source_digest(source)
    saved["a.jsonl"].write_text('{"prompt": "three"}\n')
    assert before != source_digest(source)


def test_a_prompt_that_came_before_is_dropped_and_counted(tmp_path: Path) -> None:
    path = tmp_path / "p.jsonl"
    path.write_text('{"prompt": "a"}\n\n{"messages": [{"role": "user", "content": "a"}]}\n{"prompt": "a"}\n')
    plain, chat, again = read_prompts(PromptSource(path=str(path)))
    assert isinstance(plain, Prompt) and isinstance(chat, Prompt) and plain.prompt_id != chat.prompt_id
    assert again == Failure(prompt_id=plain.prompt_id, reason="duplicate prompt", detail=f"{path}, row 3")


def test_a_final_assistant_turn_is_the_target() -> None:
    turns = [{"role": "user", "content": "hi"}, {"role": "assistant", "content": "hello"}]
    row = parse_prompt({"messages": turns})
    assert row.messages == (turns[0],) and row.target == "hello"
    assert row.prompt_id == parse_prompt({"prompt": turns[:1]}).prompt_id


@pytest.mark.parametrize(
    "row, problem",
    [
        ({"promt": "a"}, "needs 'prompt' or 'messages', has promt .is 'prompt' misspelt"),
        ({"prompt": "  "}, "is empty"),
        ({"prompt": 7}, "must be text or a list of messages, is int"),
        ({"messages": []}, "is empty"),
        ({"messages": [{"role": "user"}]}, "needs a 'role' and a text 'content'"),
        ({"messages": [{"role": "usr", "content": "a"}]}, "unknown role 'usr'"),
        ({"prompt": "half of \ud800 a pair"}, "not valid Unicode text"),
        ({"prompt": "a", "target": "\ud800"}, "not valid Unicode text"),
        ({"prompt": "a", "target": 3}, "'target' must be text"),
    ],
)
def test_rows_that_cannot_be_used_say_why(row: dict, problem: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=problem):
        parse_prompt(row)
    path = tmp_path / "p.jsonl"
    path.write_text(json.dumps(row))
    (failure,) = read_prompts(PromptSource(path=str(path)))
    assert isinstance(failure, Failure) and failure.reason == "malformed prompt"
    assert str(path) in failure.detail and "row 1" in failure.detail


def test_files_that_cannot_be_read_say_which(tmp_path: Path) -> None:
    broken = tmp_path / "broken.parquet"
    broken.write_bytes(b"PAR1 nothing")
    with pytest.raises(DataError, match="broken.parquet.*cannot be read"):
        texts(broken)
    (tmp_path / "bad.jsonl").write_text('{"prompt": "a"}\n{oops\n')
    with pytest.raises(DataError, match="bad.jsonl', line 2 is not JSON"):
        texts(tmp_path / "bad.jsonl")
    (tmp_path / "notes.txt").write_text("a")
    with pytest.raises(DataError, match="must be .jsonl"):
        texts(tmp_path / "notes.txt")
