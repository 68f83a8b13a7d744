"""First stage: prompts from the user's file into shards. Row out: `Prompt`.

Reads JSON lines (plain or gzip), Parquet files and folders of them, and Hugging Face datasets saved on disk.
Rows stream through; only the ids seen so far are held, to drop duplicates.
"""

from __future__ import annotations

import difflib
import gzip
import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from rayflow.config import PromptSource
from rayflow.core.rows import Failure, Prompt, prompt_id
from rayflow.core.schema import to_table
from rayflow.errors import DataError
from rayflow.pipeline.stage import StageContext

DUPLICATE = "duplicate prompt"
ROLES = ("system", "developer", "user", "assistant", "tool")


def source_digest(source: PromptSource) -> str:
    """Content hash of the files behind a source, so that a changed file is noticed.

    Raises:
        DataError: nothing readable is there.
    """
    digest = hashlib.sha256()
    for path in _files(source):
        with open(path, "rb") as file:
            digest.update(hashlib.file_digest(file, "sha256").digest())
    return digest.hexdigest()[:16]


@dataclass
class PromptStage:
    """Stores the prompts of one source.

    Attributes:
        name: the stage's name.
        source: where they come from.
        shard_size: prompts per shard.
    """

    name: str
    source: PromptSource
    shard_size: int
    inputs: tuple[str, ...] = ()
    models: tuple[str, ...] = ()
    writes: type = Prompt

    def identity(self) -> dict[str, Any]:
        """What decides the result: the files' content and the choice of rows."""
        return {
            "config": self.source.model_dump(mode="json", exclude={"path"}),
            "content": source_digest(self.source),
        }

    def run(self, context: StageContext) -> dict[str, Any]:
        """Write the shards; run again, it writes those that are missing.

        Raises:
            DataError: no usable prompt in the file.
        """
        prompts: list[Prompt] = []
        failures: list[Failure] = []
        for item in read_prompts(self.source):
            (prompts if isinstance(item, Prompt) else failures).append(item)  # type: ignore[arg-type]
        if not prompts:
            reasons = f" ({len(failures)} rows were refused: {failures[0].detail})" if failures else ""
            raise DataError(f"{self.source.path} holds no prompts{reasons}.")
        starts = range(0, len(prompts), self.shard_size)
        artifact = context.artifact
        artifact.begin(context.identity, num_shards=len(starts))
        for index, start in enumerate(starts):
            if not artifact.has_shard(index):
                shard = prompts[start : start + self.shard_size]
                table = to_table(shard, Prompt)
                artifact.write_shard(index, table, failures=failures if index == 0 else ())
        return {}


def read_prompts(source: PromptSource) -> Iterator[Prompt | Failure]:
    """Prompts of a source in order; a row that cannot be used, or came before, is a `Failure`."""
    seen: set[str] = set()
    for number, row in enumerate(islice(_rows(source), source.limit), start=1):
        where = f"{source.path}, row {number}"
        try:
            prompt = parse_prompt(row)
        except DataError as error:
            yield Failure(prompt_id=f"row-{number}", reason="malformed prompt", detail=f"{where}: {error}")
            continue
        if prompt.prompt_id in seen:
            yield Failure(prompt_id=prompt.prompt_id, reason=DUPLICATE, detail=where)
            continue
        seen.add(prompt.prompt_id)
        yield prompt


def parse_prompt(row: dict[str, Any]) -> Prompt:
    """A `Prompt` from a user's row: `prompt` (text, or chat messages) or `messages`, optional `target`.

    A final assistant turn in `messages` is the target, in the usual layout of supervised chat data.

    Raises:
        DataError: neither key is there, or its value has another form.
    """
    given, target = row.get("prompt", row.get("messages")), row.get("target")
    if given is None:
        near = [m for key in row for m in difflib.get_close_matches(key, ["prompt", "messages"], n=1)]
        hint = f" (is '{near[0]}' misspelt?)" if near else ""
        raise DataError(f"needs 'prompt' or 'messages', has {', '.join(row) or 'nothing'}{hint}")
    if target is not None and not isinstance(target, str):
        raise DataError(f"'target' must be text, is {type(target).__name__}")
    _require_utf8(given, target)
    if isinstance(given, str):
        if not given.strip():
            raise DataError("'prompt' is empty")
        return Prompt(prompt_id=prompt_id(given, ()), prompt=given, messages=(), target=target)
    messages = _messages(given)
    if messages and messages[-1]["role"] == "assistant":
        target = messages[-1]["content"] if target is None else target
        messages = messages[:-1]
    if not messages:
        raise DataError("'messages' is empty")
    return Prompt(prompt_id=prompt_id(None, messages), prompt=None, messages=messages, target=target)


def _require_utf8(*values: Any) -> None:
    """JSON can escape half of a surrogate pair, which no UTF-8 text, and so no stored column, can hold."""
    try:
        json.dumps(values, ensure_ascii=False).encode()
    except UnicodeEncodeError as error:
        raise DataError(f"is not valid Unicode text: {error.reason}") from None


def _messages(given: Any) -> tuple[Any, ...]:
    if not isinstance(given, list | tuple):
        raise DataError(f"the prompt must be text or a list of messages, is {type(given).__name__}")
    turns = []
    for turn in given:
        if not isinstance(turn, dict) or not isinstance(turn.get("content"), str) or "role" not in turn:
            raise DataError("each message needs a 'role' and a text 'content'")
        if turn["role"] not in ROLES:
            raise DataError(f"unknown role '{turn['role']}'; known: {', '.join(ROLES)}")
        turns.append({"role": turn["role"], "content": turn["content"]})
    return tuple(turns)


def _files(source: PromptSource) -> list[Path]:
    """The data files behind a source, sorted.

    Raises:
        DataError: nothing there, or of an unknown form.
    """
    path = Path(source.path).expanduser()
    if path.is_file():
        if path.name.endswith((".jsonl", ".jsonl.gz", ".json", ".parquet")):
            return [path]
        raise DataError(f"Prompt file '{path}' must be .jsonl, .jsonl.gz or .parquet.")
    if not path.is_dir():
        siblings = [p.name for p in path.parent.iterdir()] if path.parent.is_dir() else []
        near = difflib.get_close_matches(path.name, siblings, n=1)
        hint = f" Did you mean '{path.parent / near[0]}'?" if near else ""
        raise DataError(f"Prompt file '{path.absolute()}' does not exist.{hint}")
    folder = path / source.split if source.split and (path / source.split).is_dir() else path
    if (path / "dataset_dict.json").exists() and folder == path:
        splits = ", ".join(json.loads((path / "dataset_dict.json").read_text())["splits"])
        raise DataError(f"'{path}' holds several splits: set 'split' to one of {splits}.")
    files = sorted(folder.glob("data-*.arrow")) or sorted(folder.rglob("*.parquet"))
    if source.split and folder == path:
        files = [file for file in files if file.name.startswith(f"{source.split}-")]
    if not files:
        split = f" of split '{source.split}'" if source.split else ""
        raise DataError(f"Folder '{path}' holds no Parquet or saved Hugging Face data{split}.")
    return files


def _rows(source: PromptSource) -> Iterator[dict[str, Any]]:
    for path in _files(source):
        try:
            if path.suffix == ".parquet":
                yield from (r for batch in pq.ParquetFile(path).iter_batches() for r in batch.to_pylist())
            elif path.suffix == ".arrow":
                with pa.memory_map(str(path)) as file:
                    yield from (r for batch in pa.ipc.open_stream(file) for r in batch.to_pylist())
            else:
                yield from _json_lines(path)
        except (OSError, pa.ArrowInvalid, UnicodeDecodeError, EOFError) as error:
            raise DataError(f"Prompt file '{path}' cannot be read: {error}") from error


def _json_lines(path: Path) -> Iterator[dict[str, Any]]:
    with (gzip.open if path.suffix == ".gz" else open)(path, "rt", encoding="utf-8") as file:
        for number, line in enumerate(file, start=1):
            if not line.strip():
                continue
            try:
                row = json.loads(line)
            except json.JSONDecodeError as error:
                raise DataError(f"Prompt file '{path}', line {number} is not JSON: {error}") from None
            yield row if isinstance(row, dict) else {"prompt": row}
