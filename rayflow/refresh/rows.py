"""The table's columns, and rows for it from a run's artifacts. One row is one prompt with its whole group.

Row in: the artifacts up to the pairs. Row out: `TableRow` and where it came from (`PROVENANCE`).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from rayflow.core.rows import Accepted, PreferencePairs, Prompt, Scores
from rayflow.core.schema import schema_of
from rayflow.pipeline.artifact import Artifact
from rayflow.pipeline.stage import read_table
from rayflow.refresh.recipe import STAGES, Recipe


@dataclass(frozen=True, kw_only=True)
class Group(Prompt, Scores, Accepted, PreferencePairs):
    """What the table keeps of a prompt's group: everything but the token ids, which the texts give again."""

    responses: tuple[str, ...]
    logprobs: np.ndarray
    finish_reasons: tuple[str, ...]
    seed: int


@dataclass(frozen=True, kw_only=True)
class SampledGroup(Group):
    """View: the same with the token ids, of which only the number stays."""

    token_ids: tuple[np.ndarray, ...]


@dataclass(frozen=True, kw_only=True)
class TableRow(Group):
    """View: a group as the table holds it; `num_tokens` [n] int32, EOS included."""

    num_tokens: np.ndarray


PROVENANCE = ("content", "policy", "sampling", "reward", "selection", "date", "attempt")
"""Content hash of the prompt, the four parts of the recipe, and the day and the try that computed the row."""
SCHEMA = pa.schema([*schema_of(TableRow), *(pa.field(name, pa.string()) for name in PROVENANCE)])
PARTITIONS = ("date", "policy")


def new_rows(
    artifacts: dict[str, Artifact], contents: dict[str, str], recipe: Recipe, date: str, attempt: str
) -> Iterator[pa.Table]:
    """The groups that a run made, one shard at a time.

    Args:
        artifacts: of the stages up to the pairs.
        contents: prompt id -> content hash.
        recipe: what they were made from.
        date: the day they were made for.
        attempt: the try that made them.
    """
    sources = [artifacts[name] for name in STAGES]
    for index in range(sources[-1].num_shards):
        table = read_table(sources, index, SampledGroup)
        columns = {name: table.column(name) for name in schema_of(Group).names}
        columns["num_tokens"] = lengths(table.column("token_ids"))
        ids = table.column("prompt_id").to_pylist()
        same = recipe.to_dict() | {"date": date, "attempt": attempt}
        columns["content"] = pa.array([contents[key] for key in ids], pa.string())
        columns |= {name: pa.repeat(pa.scalar(value), len(ids)) for name, value in same.items()}
        yield pa.table([columns[name] for name in SCHEMA.names], schema=SCHEMA)


def lengths(column: pa.ChunkedArray) -> pa.Array:
    """Number of entries of each inner list of a column of lists of lists: list<int32>, as `num_tokens`."""
    lists = column.combine_chunks()
    counts = pc.list_value_length(lists.flatten()).cast(pa.int32())
    offsets = np.concatenate([[0], np.cumsum(pc.list_value_length(lists).to_numpy())])
    return pa.ListArray.from_arrays(pa.array(offsets, pa.int32()), counts)
