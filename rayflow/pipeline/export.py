"""Preference pairs of a run in the layout that other trainers read, one shard in memory at a time."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from rayflow.core.files import replacing
from rayflow.core.ids import pair_id
from rayflow.core.rows import Accepted, PreferenceGroup, PreferencePairs, Sampled
from rayflow.errors import ArtifactError, ConfigError
from rayflow.pipeline.artifact import Artifact
from rayflow.pipeline.stage import read_rows
from rayflow.sources.pairs import ENDINGS, SCORES

STAGES = ("prompts", "sample", "score", "select", "pair")
_MESSAGES = pa.list_(pa.struct([("role", pa.string()), ("content", pa.string())]))


@dataclass(frozen=True, kw_only=True)
class UnscoredGroup(Sampled, Accepted, PreferencePairs):
    """View: a group of a run that scored nothing."""


def trl_rows(artifacts: dict[str, Artifact]) -> Iterator[list[dict[str, Any]]]:
    """Shards of rows in TRL's preference format with an explicit prompt.

    A chat prompt gives the conversational form (lists of messages), a plain one the string form. Beside
    `prompt`, `chosen`, `rejected` stand `pair_id`, how each response ended (`finish_reason_chosen`, "stop" or
    "length") and, if the run has rewards, `score_chosen` and `score_rejected`.
    """
    sources = [artifacts[name] for name in STAGES if name in artifacts]
    view = PreferenceGroup if "score" in artifacts else UnscoredGroup
    for index in range(sources[-1].num_shards):
        yield [row for group in read_rows(sources, index, view) for row in _pairs(group)]


def _pairs(group: Any) -> Iterator[dict[str, Any]]:
    for chosen, rejected in group.pairs:
        yield {
            "pair_id": pair_id(group.prompt_id, int(chosen), int(rejected)),
            "prompt": list(group.messages) if group.prompt is None else group.prompt,
            "chosen": _answer(group, int(chosen)),
            "rejected": _answer(group, int(rejected)),
            **{
                name: group.finish_reasons[int(i)]
                for name, i in zip(ENDINGS, (chosen, rejected), strict=True)
            },
            **_scores(group, pair=(int(chosen), int(rejected))),
        }


def _scores(group: Any, pair: tuple[int, int]) -> dict[str, float]:
    if not isinstance(group, PreferenceGroup):
        return {}
    return {name: float(group.rewards[i]) for name, i in zip(SCORES, pair, strict=True)}


def _answer(group: Any, index: int) -> Any:
    text = group.responses[index]
    return [{"role": "assistant", "content": text}] if group.prompt is None else text


def write_trl(artifacts: dict[str, Artifact], output: Path) -> tuple[int, int]:
    """Write all pairs to a .jsonl or .parquet file, whole or not at all.

    Returns:
        How many, and how many of them hold a response that was cut.

    Raises:
        ConfigError: another file type, or a Parquet file for prompts of both forms.
        ArtifactError: there is no pair.
    """
    artifacts["pair"].manifest()  # not finished: says so before a file is made
    output.parent.mkdir(parents=True, exist_ok=True)
    write = {".jsonl": _write_jsonl, ".parquet": _write_parquet}.get(output.suffix)
    if write is None:
        raise ConfigError(f"Cannot write '{output}': name a .jsonl or a .parquet file.")
    with replacing(output) as pending:
        total, cut = write(artifacts, pending)
        if not total:
            folder = artifacts["pair"].folder
            raise ArtifactError(
                f"There is no pair to write: every prompt of {folder} has none, its accepted responses tied or too "
                "few. `rayflow report` shows the rewards; `rayflow select` selects and pairs anew."
            )
    return total, cut


def _num_cut(rows: list[dict[str, Any]]) -> int:
    return sum("length" in (row[ENDINGS[0]], row[ENDINGS[1]]) for row in rows)


def _write_jsonl(artifacts: dict[str, Artifact], output: Path) -> tuple[int, int]:
    total, cut = 0, 0
    with open(output, "w", encoding="utf-8") as file:
        for rows in trl_rows(artifacts):
            file.writelines(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
            total, cut = total + len(rows), cut + _num_cut(rows)
    return total, cut


def _write_parquet(artifacts: dict[str, Artifact], output: Path) -> tuple[int, int]:
    total, cut, writer = 0, 0, None
    for rows in trl_rows(artifacts):
        if not rows:
            continue
        if writer is None:
            kind = pa.string() if isinstance(rows[0]["prompt"], str) else _MESSAGES
            texts = [(name, kind) for name in ("prompt", "chosen", "rejected")]
            scores = [(name, pa.float64()) for name in SCORES if name in rows[0]]
            endings = [(name, pa.string()) for name in ENDINGS]
            schema = pa.schema([("pair_id", pa.string()), *texts, *endings, *scores])
            writer = pq.ParquetWriter(output, schema)
        try:
            writer.write_table(pa.Table.from_pylist(rows, schema=schema))
        except (pa.ArrowInvalid, pa.ArrowTypeError) as error:
            writer.close()
            raise ConfigError("Chat and plain prompts do not fit one Parquet file: export .jsonl.") from error
        total, cut = total + len(rows), cut + _num_cut(rows)
    if writer is not None:
        writer.close()
    return total, cut
