"""Data files of the table: new ones written, old ones kept, rewritten or left behind.

Row in: tables of rows. Out: what an entry of the Delta log says of files. Memory is bounded by one row group of each
partition that is being written, and a file none of whose rows changes is not touched.
"""

from __future__ import annotations

import json
import os
import secrets
import time
from collections.abc import Collection, Iterable
from dataclasses import dataclass, field
from itertools import groupby
from operator import itemgetter
from pathlib import Path
from typing import BinaryIO

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from rayflow.refresh.rows import PARTITIONS, SCHEMA

GROUP_ROWS = 512
FILE_ROWS = 8 * GROUP_ROWS
"""A row is a whole group, tens of kilobytes: a row group is some 10 MB, a file, which readers take whole, under 100."""
STORED = pa.schema([field for field in SCHEMA if field.name not in PARTITIONS])
"""What a file holds: its partition stands in its path."""

Partition = tuple[str, ...]


@dataclass(frozen=True)
class Part:
    """A data file of the table.

    Attributes:
        path: below the table's folder.
        partition: values of `PARTITIONS`.
        size: bytes.
        rows: how many.
    """

    path: str
    partition: Partition
    size: int
    rows: int

    @property
    def values(self) -> dict[str, str]:
        """The partition by name."""
        return dict(zip(PARTITIONS, self.partition, strict=True))

    @property
    def stats(self) -> str:
        """As the log keeps it."""
        return json.dumps({"numRecords": self.rows})


@dataclass
class _Open:
    """A file that is being written."""

    path: str
    sink: BinaryIO
    writer: pq.ParquetWriter
    rows: int = 0
    waiting: list[pa.Table] = field(default_factory=list)

    @property
    def num_waiting(self) -> int:
        return sum(table.num_rows for table in self.waiting)


class PartWriter:
    """Writes rows into files by their partition.

    Args:
        folder: the table's.
        name: in the name of every file, for people. A token makes each writer's files its own: one that was given
            up for dead and wakes up cannot touch what its successor has committed. Files that no version came to
            hold are removed by `PreferenceTable.vacuum`.
    """

    def __init__(self, folder: Path, name: str) -> None:
        self._folder = folder
        self._name = f"{name}-{secrets.token_hex(4)}"
        self._open: dict[Partition, _Open] = {}
        self._count = 0
        self.parts: list[Part] = []

    def write(self, tables: Iterable[pa.Table]) -> None:
        """Take rows, of any partitions."""
        for table in tables:
            for partition in sorted({tuple(row.values()) for row in table.select(PARTITIONS).to_pylist()}):
                chosen = _in_partition(table, partition)
                self._write(partition, chosen.select(STORED.names))

    def close(self) -> list[Part]:
        """Finish every file; returns all that were written."""
        for partition in list(self._open):
            self.finish(partition)
        return self.parts

    def finish(self, partition: Partition) -> None:
        """Close the file of a partition, if one is open: it takes memory and a descriptor."""
        if partition not in self._open:
            return
        file = self._open.pop(partition)
        _flush(file)
        file.writer.close()
        file.sink.flush()
        os.fsync(file.sink.fileno())
        size = file.sink.tell()
        file.sink.close()
        self.parts.append(Part(file.path, partition, size, file.rows))

    def _write(self, partition: Partition, table: pa.Table) -> None:
        if partition not in self._open:
            self._open[partition] = self._begin(partition)
        file = self._open[partition]
        file.waiting.append(table)
        if file.num_waiting >= GROUP_ROWS:
            _flush(file)
        if file.rows >= FILE_ROWS:
            self.finish(partition)

    def _begin(self, partition: Partition) -> _Open:
        folder = "/".join(f"{name}={value}" for name, value in zip(PARTITIONS, partition, strict=True))
        path = f"{folder}/part-{self._name}-{self._count:05d}.parquet"
        self._count += 1
        (self._folder / folder).mkdir(parents=True, exist_ok=True)
        sink = open(self._folder / path, "xb")  # noqa: SIM115  # closed by `finish`
        return _Open(path, sink, pq.ParquetWriter(sink, STORED, compression="zstd", write_page_checksum=True))


def _in_partition(table: pa.Table, partition: Partition) -> pa.Table:
    chosen = None
    for name, value in zip(PARTITIONS, partition, strict=True):
        same = pc.equal(table.column(name), value)
        chosen = same if chosen is None else pc.and_(chosen, same)
    return table.filter(chosen)


def _flush(file: _Open) -> None:
    table = pa.concat_tables(file.waiting).combine_chunks() if file.waiting else None
    if table is not None and table.num_rows:
        file.writer.write_table(table, row_group_size=GROUP_ROWS)
        file.rows += table.num_rows
    file.waiting = []


_PARTITION = itemgetter(1)


def keep_rows(
    folder: Path, files: Iterable[tuple[str, Partition]], carried: Collection[str], writer: PartWriter
) -> list[tuple[str, Partition]]:
    """Leave files alone whose rows all stay, and copy what stays of the others.

    Args:
        folder: the table's.
        files: its data files, path and partition.
        carried: ids of the rows that stay.
        writer: where the copies go.

    Returns:
        The files that are to be left behind.
    """
    wanted = pa.array(list(carried), pa.string())
    left: list[tuple[str, Partition]] = []
    for partition, group in groupby(sorted(files, key=_PARTITION), key=_PARTITION):
        for path, _ in group:
            with pq.ParquetFile(folder / path, page_checksum_verification=True) as file:
                ids = file.read(columns=["prompt_id"]).column("prompt_id")
                stays = pc.is_in(ids, value_set=wanted)
                if pc.all(stays, min_count=0).as_py():
                    continue
                left.append((path, partition))
                if pc.any(stays, min_count=0).as_py():
                    writer.write(_rest(file, partition, stays.combine_chunks()))
        # Or a table of years would have a file and waiting rows open for each of its days.
        writer.finish(partition)
    return left


def _rest(file: pq.ParquetFile, partition: Partition, stays: pa.Array) -> Iterable[pa.Table]:
    """Those rows of a file that stay ([rows] bool), with the columns that its path holds."""
    start = 0
    for batch in file.iter_batches(batch_size=GROUP_ROWS, columns=STORED.names):
        table = pa.Table.from_batches([batch]).filter(stays.slice(start, batch.num_rows))
        start += batch.num_rows
        for name, value in zip(PARTITIONS, partition, strict=True):
            table = table.append_column(name, pa.repeat(pa.scalar(value, pa.string()), table.num_rows))
        yield table.select(SCHEMA.names).cast(SCHEMA)


def now_ms() -> int:
    """Unix time in milliseconds, as the log wants it."""
    return round(time.time() * 1000)
