"""The shards of a stage: files of rows that commit one by one, each with a marker and a checksum.

shards/
  00003-1f2e3d.parquet   the columns of one shard
  00003.json             its marker: the shard is committed once this exists

A marker names its data file and is created exclusively, so of two writers of one shard (a worker that was
given up and its replacement) exactly one wins and nothing is ever half there.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import secrets
import time
from collections.abc import Collection, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from rayflow.core.files import read_json, writing
from rayflow.core.rows import Failure
from rayflow.errors import ArtifactError
from rayflow.pipeline.manifest import remedy

HASHED_BYTES = 8 << 20
"""Up to this size a shard is read whole and held against its SHA-256; of a larger one, read column by column,
the pages carry checksums of their own."""


@dataclass(frozen=True)
class Marker:
    """What is known of a committed shard.

    Attributes:
        file: name of the data file, beside the marker.
        rows: rows that came out.
        failures: rows that did not, with reasons.
        seconds: time the worker spent on it.
        tokens: tokens generated or processed; 0 where that has no meaning.
        finished: Unix time of the commit.
        size: bytes of the data file; 0 where it was not noted.
        sha256: of the data file; "" where it was not noted.
    """

    file: str
    rows: int
    failures: tuple[Failure, ...] = ()
    seconds: float = 0.0
    tokens: int = 0
    finished: float = 0.0
    size: int = 0
    sha256: str = ""


class Shards:
    """The folder of a stage's shards. How many there will be is the stage's affair.

    Args:
        folder: inside the stage's, which is inside the run's.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = Path(folder)

    def committed(self) -> set[int]:
        """Indices of the shards that are done."""
        if not self.folder.is_dir():
            return set()
        with os.scandir(self.folder) as entries:
            return {int(e.name[:-5]) for e in entries if e.name.endswith(".json")}

    def has(self, index: int) -> bool:
        """Whether one shard is done, without listing the others."""
        return self._marker(index).exists()

    def write(
        self,
        index: int,
        table: pa.Table,
        *,
        failures: Sequence[Failure] = (),
        seconds: float = 0.0,
        tokens: int = 0,
    ) -> None:
        """Commit one shard; if another writer was first, its version stands and this one is dropped.

        Raises:
            ArtifactError: the storage has no room, or refuses; nothing of the shard is left there.
        """
        data = self.folder / f"{index:05d}-{secrets.token_hex(4)}.parquet"
        pending = data.with_suffix(".tmp")
        buffer = _to_parquet(table)
        digest = hashlib.sha256(buffer).hexdigest()
        marker = Marker(
            data.name, table.num_rows, tuple(failures), seconds, tokens, time.time(), buffer.size, digest
        )
        with writing(data), contextlib.ExitStack() as undo:
            undo.callback(data.unlink, missing_ok=True)
            undo.callback(pending.unlink, missing_ok=True)
            with open(data, "wb") as sink:
                sink.write(buffer)
                sink.flush()
                os.fsync(sink.fileno())
            with open(pending, "w", encoding="utf-8") as sink:
                json.dump(asdict(marker), sink, ensure_ascii=False)
                sink.flush()
                os.fsync(sink.fileno())  # a marker that is there is whole, also after a machine was cut off
            try:
                os.link(pending, self._marker(index))  # fails if the marker exists: the first writer wins
            except FileExistsError:
                # 2: it was this one, and a network file system lost its answer
                if pending.stat().st_nlink == 1:
                    return
            undo.pop_all()
            pending.unlink(missing_ok=True)

    def marker(self, index: int) -> Marker:
        """The marker of a committed shard.

        Raises:
            ArtifactError: not committed, damaged, or another version's.
        """
        path = self._marker(index)
        try:
            data = read_json(path)
            return Marker(**{**data, "failures": tuple(Failure(**f) for f in data["failures"])})
        except ArtifactError as error:
            raise ArtifactError(f"{error} {self._remedy()}") from error
        except (KeyError, TypeError) as error:
            raise ArtifactError(
                f"{path} is damaged, or another version's ({error}). {self._remedy()}"
            ) from error

    def read(self, index: int, columns: Collection[str] | None = None) -> pa.Table:
        """Those of `columns` that a committed shard has (all if None), and nothing else from disk.

        Raises:
            ArtifactError: the shard is not committed, or its file is missing or damaged.
        """
        marker = self.marker(index)
        path = self.folder / marker.file
        try:
            source = _checked(path, marker) if marker.size <= HASHED_BYTES else path
            with pq.ParquetFile(source, page_checksum_verification=True) as file:
                names = [n for n in file.schema_arrow.names if columns is None or n in columns]
                return file.read(columns=names)
        except (OSError, pa.ArrowException) as error:
            raise ArtifactError(f"Shard {path} is missing or damaged ({error}). {self._remedy()}") from error

    def failures(self) -> Iterator[Failure]:
        """The failed rows of the shards that are committed."""
        for index in sorted(self.committed()):
            yield from self.marker(index).failures

    def damage(self, index: int) -> str:
        """What is wrong with a committed shard, by its whole content, and with which file; "" where nothing is."""
        try:
            marker = self.marker(index)
        except ArtifactError as error:
            return str(error)
        path = self.folder / marker.file
        try:
            _checked(path, marker)
            self.read(index)
        except OSError as error:
            return f"{path}: {error}."
        except ArtifactError as error:
            return str(error)
        return ""

    def forget(self, indices: Collection[int]) -> None:
        """Take these shards back, so that they are computed anew."""
        for index in indices:
            # Its data file is a stray, cleared when the stage is committed.
            self._marker(index).unlink(missing_ok=True)

    def clear_strays(self, kept: Collection[str]) -> None:
        """Delete the data files that no marker names: left by writers that were killed before their marker.

        Args:
            kept: names of the files that markers name.
        """
        for stray in self.folder.iterdir():
            if stray.suffix != ".json" and stray.name not in kept:
                stray.unlink(missing_ok=True)

    def _marker(self, index: int) -> Path:
        return self.folder / f"{index:05d}.json"

    def _remedy(self) -> str:
        return remedy(self.folder.parent.parent)


def _to_parquet(table: pa.Table) -> pa.Buffer:
    """In memory, as shards are small: so that its digest costs no second reading."""
    sink = pa.BufferOutputStream()
    pq.write_table(table, sink, compression="zstd", write_page_checksum=True)
    return sink.getvalue()


def _checked(path: Path, marker: Marker) -> pa.BufferReader:
    """A shard's content, held against what was noted at its commit.

    Raises:
        OSError: it cannot be read, or is not what was committed.
    """
    content = path.read_bytes()
    if marker.size and len(content) != marker.size:
        raise OSError(f"{len(content)} bytes, where {marker.size} were committed")
    if marker.sha256 and hashlib.sha256(content).hexdigest() != marker.sha256:
        raise OSError("its SHA-256 is not the committed one")
    return pa.BufferReader(content)
