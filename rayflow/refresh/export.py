"""A version of the table as files for other tools, one batch of rows in memory at a time.

`trl`: a data set folder in the Hugging Face layout, data/train-*.parquet and a README.md with its YAML, one row per
pair with `prompt`, `chosen`, `rejected`, their scores and how they ended. `groups`: the same folder with one row per
prompt, its target, responses, pairs and scores together. rayflow's own layouts of these names read both back.
"""

from __future__ import annotations

import secrets
import shutil
from collections.abc import Iterator
from itertools import chain, islice
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import yaml

from rayflow.core.ids import pair_id
from rayflow.errors import ConfigError, DataError
from rayflow.refresh.folder import VersionRecord
from rayflow.refresh.table import PreferenceTable
from rayflow.sources.pairs import ENDINGS, SCORES

ROWS_PER_FILE = 20_000
FORMATS = ("trl", "groups")
_MESSAGES = pa.list_(pa.struct([("role", pa.string()), ("content", pa.string())]))
_READ = (
    "prompt_id",
    "prompt",
    "messages",
    "target",
    "responses",
    "finish_reasons",
    "rewards",
    "accepted",
    "pairs",
    "margins",
    "date",
    "policy",
)


def export(table: PreferenceTable, record: VersionRecord, folder: Path, format: str) -> int:
    """Write a version to a folder that does not exist yet; returns how many rows.

    Raises:
        ConfigError: an unknown format, a folder that is not empty, or prompts of both forms, which do not fit one
            table.
        DataError: the version has nothing to export.
    """
    if format not in FORMATS:
        raise ConfigError(f"Unknown export format '{format}'. Known: {', '.join(FORMATS)}.")
    if folder.exists() and any(folder.iterdir()):
        raise ConfigError(f"{folder} is not empty; name a new folder.")
    rows = (row for batch in table.batches(record.version, _READ) for row in batch.to_pylist())
    made = (each for row in rows for each in (_pairs(row) if format == "trl" else _group(row)))
    first = next(made, None)
    if first is None:
        what = "pairs" if format == "trl" else "responses"
        raise DataError(f"Version {record.version} has no {what} to export.")
    pending = folder.with_name(f".{folder.name}.{secrets.token_hex(4)}")
    schema = _schema(first, format)
    try:
        total, size = _write(chain([first], made), schema, pending / "data")
        stored = sum(path.stat().st_size for path in (pending / "data").iterdir())
        card = _card(record, schema, total, (size, stored))
        (pending / "README.md").write_text(card, encoding="utf-8")
        pending.replace(folder)  # an empty folder may be there
    finally:
        shutil.rmtree(pending, ignore_errors=True)
    return total


def _pairs(row: dict[str, Any]) -> Iterator[dict[str, Any]]:
    chat = row["prompt"] is None

    def said(index: int) -> Any:
        text = row["responses"][index]
        return [{"role": "assistant", "content": text}] if chat else text

    for (chosen, rejected), margin in zip(row["pairs"], row["margins"], strict=True):
        both = (chosen, rejected)
        yield {
            "prompt": row["messages"] if chat else row["prompt"],
            "chosen": said(chosen),
            "rejected": said(rejected),
            **{name: row["finish_reasons"][i] for name, i in zip(ENDINGS, both, strict=True)},
            **{name: row["rewards"][i] for name, i in zip(SCORES, both, strict=True)},
            "margin": margin,
            "pair_id": pair_id(row["prompt_id"], chosen, rejected),
            "prompt_id": row["prompt_id"],
            "policy": row["policy"],
            "date": row["date"],
        }


def _group(row: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """The accepted responses, and the pairs as indices among them.

    Responses without a text, and pairs of which both say the same, teach nothing and are left out.
    """
    texts = row["responses"]
    named = {*row["accepted"], *(index for pair in row["pairs"] for index in pair)}
    kept = sorted(index for index in named if texts[index].strip())
    if not kept:
        return
    place = {index: i for i, index in enumerate(kept)}
    pairs = [
        pair
        for pair in row["pairs"]
        if len({texts[i].strip() for i in pair}) == 2 and place.keys() >= set(pair)
    ]
    yield {
        "prompt": row["messages"] if row["prompt"] is None else row["prompt"],
        "target": row["target"],
        "responses": [texts[index] for index in kept],
        "finish_reasons": [row["finish_reasons"][index] for index in kept],
        "pairs": [[place[index] for index in pair] for pair in pairs],
        "scores": [row["rewards"][index] for index in kept],
        "prompt_id": row["prompt_id"],
    }


def _schema(first: dict[str, Any], format: str) -> pa.Schema:
    text = pa.string() if isinstance(first["prompt"], str) else _MESSAGES
    if format == "groups":
        lists = {
            "responses": pa.string(),
            "finish_reasons": pa.string(),
            "pairs": pa.list_(pa.int32()),
            "scores": pa.float64(),
        }
        fields = [("prompt", text), ("target", pa.string())]
        fields += [(name, pa.list_(kind)) for name, kind in lists.items()]
        return pa.schema([*fields, ("prompt_id", pa.string())])
    texts = [(name, text) for name in ("prompt", "chosen", "rejected")]
    endings = [(name, pa.string()) for name in ENDINGS]
    scores = [(name, pa.float64()) for name in (*SCORES, "margin")]
    origin = [(name, pa.string()) for name in ("pair_id", "prompt_id", "policy", "date")]
    return pa.schema([*texts, *endings, *scores, *origin])


def _write(rows: Iterator[dict[str, Any]], schema: pa.Schema, folder: Path) -> tuple[int, int]:
    """Files of a bounded number of rows, named when it is known how many they are; returns rows and bytes in memory.

    Raises:
        ConfigError: a prompt of another form than the first.
    """
    folder.mkdir(parents=True)
    total, size, files = 0, 0, []
    while part := list(islice(rows, ROWS_PER_FILE)):
        try:
            table = pa.Table.from_pylist(part, schema=schema)
        except (pa.ArrowInvalid, pa.ArrowTypeError) as error:
            raise ConfigError("Chat and plain prompts do not fit one data set.") from error
        files.append(folder / f"part-{len(files)}.parquet")
        pq.write_table(table, files[-1], compression="zstd")
        total, size = total + len(part), size + table.nbytes
    for number, path in enumerate(files):
        path.rename(folder / f"train-{number:05d}-of-{len(files):05d}.parquet")
    return total, size


def _card(record: VersionRecord, schema: pa.Schema, total: int, sizes: tuple[int, int]) -> str:
    """README.md as the hub reads it: a YAML header that names the files and their columns, and a few words."""
    in_memory, stored = sizes
    header = {
        "configs": [{"config_name": "default", "data_files": [{"split": "train", "path": "data/train-*"}]}],
        "dataset_info": {
            "features": [{"name": field.name, **_feature(field.type)} for field in schema],
            "splits": [{"name": "train", "num_bytes": in_memory, "num_examples": total}],
            "download_size": stored,
            "dataset_size": in_memory,
        },
        "task_categories": ["text-generation"],
        "tags": ["dpo", "preference", "rayflow"],
    }
    words = (
        f"Preferences made by rayflow: version {record.version} of its table, refreshed on {record.date}. "
        f"Responses are samples of `{record.recipe['policy']}`; the reward's fingerprint is "
        f"`{record.recipe['reward']}`."
    )
    return f"---\n{yaml.safe_dump(header, sort_keys=False)}---\n\n# Preferences\n\n{words}\n"


def _feature(kind: pa.DataType) -> dict[str, Any]:
    """A column's type in the words of the `datasets` library."""
    if pa.types.is_list(kind):
        inner = _feature(kind.value_type)
        return {"list": inner.get("struct", inner.get("dtype", inner))}
    if pa.types.is_struct(kind):
        return {"struct": [{"name": field.name, **_feature(field.type)} for field in kind]}
    return {"dtype": {"double": "float64"}.get(str(kind), str(kind))}
