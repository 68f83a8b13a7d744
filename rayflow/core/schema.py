"""Records to Arrow tables and back, column by column, without a Python object per token.

The Arrow type of a column follows from the field's annotation in `rows`; arrays come back as numpy views.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import MISSING, fields
from functools import cache
from typing import Any, TypeVar, get_type_hints

import numpy as np
import pyarrow as pa

from rayflow.core.rows import Message, Row
from rayflow.errors import StageError

R = TypeVar("R", bound=Row)

_MOST = 2**31 - 1
"""Numbers in the lists of a column: Arrow counts them in 32 bits."""
_MESSAGE = pa.struct([("role", pa.string()), ("content", pa.string())])
_SCALARS: dict[Any, pa.DataType] = {
    str: pa.string(),
    str | None: pa.string(),
    int: pa.int64(),
    float: pa.float64(),
    tuple[str, ...]: pa.list_(pa.string()),
    tuple[Message, ...]: pa.list_(_MESSAGE),
}
# A bare ndarray annotation does not say its dtype; these are the columns' contracts (see `rows`).
_ARRAYS: dict[str, pa.DataType] = {
    "prompt_token_ids": pa.int32(),
    "target_token_ids": pa.int32(),
    "accepted": pa.int32(),
    "logprobs": pa.float32(),
    "ref_logprobs": pa.float32(),
    "sampler_differences": pa.float32(),
    "rewards": pa.float64(),
    "margins": pa.float64(),
    "variances": pa.float64(),
    "policy_rewards": pa.float64(),
    "baseline_rewards": pa.float64(),
    "preferred": pa.float64(),
    "scores": pa.float64(),
    "num_tokens": pa.int32(),
    "letters": pa.int32(),
    "exact_logprobs": pa.float32(),
    "judge_swapped": pa.int32(),
    "judge_verdicts": pa.float64(),
    "shown_first": pa.float32(),
    "shown_second": pa.float32(),
}
# The same for a tuple of arrays: token ids and index pairs unless it says otherwise here.
_NESTED: dict[str, pa.DataType] = {"component_rewards": pa.float64()}


@cache
def schema_of(record: type[Row]) -> pa.Schema:
    """The Arrow schema of a record type or view, in field order."""
    hints = get_type_hints(record)
    return pa.schema([pa.field(field.name, _kind(field.name, hints[field.name])) for field in fields(record)])


def _kind(name: str, hint: Any) -> pa.DataType:
    if hint is np.ndarray:
        return pa.list_(_ARRAYS[name])
    if hint == tuple[np.ndarray, ...]:
        return pa.list_(pa.list_(_NESTED.get(name, pa.int32())))
    return _SCALARS[hint]


def to_table(records: Sequence[Row], record: type[Row]) -> pa.Table:
    """Columns of `records`, one table row per record, in the given order."""
    schema = schema_of(record)
    return pa.table([_encode([getattr(r, f.name) for r in records], f.type) for f in schema], schema=schema)


def _encode(values: Sequence[Any], kind: pa.DataType) -> pa.Array:
    """A column of one value per table row; lists become one flat array and the places where they end.

    Arrow's own conversion of nested sequences visits every number as an object, which took longer than writing
    the file.
    """
    if not pa.types.is_list(kind):
        return pa.array(values, type=kind)
    inner = kind.value_type
    offsets = np.concatenate([[0], np.cumsum([len(value) for value in values], dtype=np.int64)])
    if offsets[-1] > _MOST:
        raise StageError(
            f"One shard's column would hold {offsets[-1]:,} values in its lists, and {_MOST:,} is the most. Lower "
            "compute.shard_size."
        )
    if _is_number(inner):
        arrays = [np.asarray(value) for value in values if len(value)]  # an empty list's dtype says nothing
        flat = pa.array(np.concatenate(arrays) if arrays else (), type=inner)
    else:
        flat = _encode([item for value in values for item in value], inner)
    return pa.ListArray.from_arrays(pa.array(offsets, pa.int32()), flat, type=kind)


def from_table(table: pa.Table, record: type[R]) -> list[R]:
    """Records of type `record` from a table with at least its columns; those with a default may be missing.

    Raises:
        KeyError: another column is missing.
    """
    here = set(table.column_names)
    names = [f.name for f in fields(record) if f.name in here or f.default is MISSING]
    columns = [_decode(table.column(name).combine_chunks()) for name in names]
    return [record(**dict(zip(names, values, strict=True))) for values in zip(*columns, strict=True)]


def _decode(column: pa.Array | pa.ChunkedArray) -> list[Any]:
    """One Python value per table row; lists of numbers become numpy views into the column's buffer."""
    if isinstance(column, pa.ChunkedArray):
        column = pa.concat_arrays(column.chunks) if column.num_chunks else pa.array([], type=column.type)
    if not pa.types.is_list(column.type):
        return column.to_pylist()
    inner = column.type.value_type
    offsets = column.offsets.to_numpy().tolist()
    spans = zip(offsets[:-1], offsets[1:], strict=True)
    if _is_number(inner):
        values = column.values.to_numpy(zero_copy_only=False)
        return [values[a:b] for a, b in spans]
    if pa.types.is_list(inner):
        nested = _decode(column.values)
        return [tuple(nested[a:b]) for a, b in spans]
    return [tuple(value) for value in column.to_pylist()]


def _is_number(kind: pa.DataType) -> bool:
    return pa.types.is_integer(kind) or pa.types.is_floating(kind)


def join(tables: Sequence[pa.Table]) -> pa.Table:
    """Inner join of stage tables on `prompt_id`, in the order of the last one.

    Stages keep the order of their rows, so columns are taken as they are wherever no row was lost.
    """
    base = tables[-1]
    ids = base.column("prompt_id").to_pylist()
    positions = [
        {key: i for i, key in enumerate(table.column("prompt_id").to_pylist())} for table in tables[:-1]
    ]
    kept = [key for key in ids if all(key in position for position in positions)]
    if len(kept) < len(ids):
        present = set(kept)
        base = base.filter(pa.array([key in present for key in ids]))
    columns: dict[str, pa.ChunkedArray] = {}
    for table, position in zip(tables[:-1], positions, strict=True):
        if list(position) != kept:
            table = table.take(pa.array([position[key] for key in kept], type=pa.int64()))
        columns |= dict(zip(table.column_names, table.columns, strict=True))
    columns |= dict(zip(base.column_names, base.columns, strict=True))
    return pa.table(columns)


def amend(table: pa.Table, newer: pa.Table) -> pa.Table:
    """The rows of `table`, in their order, each replaced by the row of the same `prompt_id` in `newer`.

    Args:
        table: rows with a `prompt_id` each.
        newer: columns of the same names; all of its ids are in `table`.
    """
    if not newer.num_rows:
        return table
    place = {key: i for i, key in enumerate(newer.column("prompt_id").to_pylist(), start=table.num_rows)}
    positions = [place.get(key, i) for i, key in enumerate(table.column("prompt_id").to_pylist())]
    return pa.concat_tables([table, newer.select(table.column_names)]).take(pa.array(positions, pa.int64()))
