"""A stage's folder on disk: shards that commit one by one, and a manifest that is written last.

    NN-name/
      stage.json               what the stage is: its identity and its number of shards, fixed at the start (by
                               the prompts, which decide it, at their end)
      shards/00003-1f2e3d.parquet   the columns of one shard
      shards/00003.json        its marker: the shard is committed once this exists
      failures.jsonl           the rows that failed, with reasons
      seconds.json             of a stage without shards: what all calls have spent on it
      manifest.json            written by rename at the end: the stage is committed once this exists

A marker names its data file and is created exclusively, so of two writers of one shard (a worker that was
given up and its replacement) exactly one wins and nothing is ever half there.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import secrets
import shutil
import time
from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from rayflow.core.files import read_json, write_json, writing
from rayflow.core.rows import Failure
from rayflow.errors import ArtifactError
from rayflow.pipeline.identity import differences, fingerprint
from rayflow.pipeline.stored import (
    FORMAT,
    HASHED_BYTES,
    OTHER_VERSION,
    Manifest,
    Marker,
    checked,
    read_stored,
    to_parquet,
)


class Artifact:
    """One stage's folder. Cheap to build and to send to a worker; holds no open files."""

    def __init__(self, folder: Path) -> None:
        self.folder = Path(folder)
        self.shards = self.folder / "shards"

    @property
    def name(self) -> str:
        """The stage's name: the folder's, without its number."""
        return self.folder.name.split("-", 1)[-1]

    @property
    def committed(self) -> bool:
        """Whether the whole stage is finished."""
        return (self.folder / "manifest.json").exists()

    @property
    def identity(self) -> dict[str, Any] | None:
        """What the stored stage was made from, or None if it was never begun."""
        path = self.folder / "stage.json"
        return read_stored(path)["identity"] if path.exists() else None

    def begin(self, identity: dict[str, Any], num_shards: int | None, shard_size: int | None = None) -> None:
        """Fix what the stage is. Beginning again with the same identity resumes it.

        Args:
            identity: what it is made from.
            num_shards: how many there will be; None if that shows only at the end (see `settle`).
            shard_size: rows per shard, where this stage decides it.

        Raises:
            ArtifactError: the folder holds the stage made from another configuration.
        """
        stored = self.identity
        if stored is None:
            with writing(self.shards):
                self.shards.mkdir(parents=True, exist_ok=True)
            sized = {} if shard_size is None else {"shard_size": shard_size}
            stage = {"identity": identity, "num_shards": num_shards, "format": FORMAT, **sized}
            write_json(self.folder / "stage.json", stage)
        else:
            self.check(identity)

    def settle(self, num_shards: int) -> None:
        """Fix the number of shards of a stage that was begun without one."""
        stage = self.folder / "stage.json"
        write_json(stage, {**read_json(stage), "num_shards": num_shards})

    def check(self, identity: dict[str, Any]) -> None:
        """Refuse a stored stage that another configuration made, naming every field that differs."""
        stored = self.identity
        if stored is None or stored == identity:
            return
        changes = "\n".join(f"  {line}" for line in differences(stored, identity))
        raise ArtifactError(
            f"{self.folder} was made from another configuration:\n{changes}\n"
            f"Give the run a new name (--set name=...), or redo this stage and what depends on it "
            f"with --force-stage {self.name}."
        )

    @property
    def num_shards(self) -> int:
        """The shard list's length, fixed when the stage began.

        Raises:
            ArtifactError: the stage was not begun, or settles it only at its end and has not got there.
        """
        found = read_stored(self.folder / "stage.json")["num_shards"]
        if found is None:
            raise ArtifactError(f"Stage {self.folder} is not finished; run it first.")
        return int(found)

    @property
    def shard_size(self) -> int | None:
        """Rows per shard, of a begun stage that decides it; None if it is not written down."""
        return read_stored(self.folder / "stage.json").get("shard_size")

    def committed_shards(self) -> set[int]:
        """Indices of the shards that are done."""
        if not self.shards.is_dir():
            return set()
        with os.scandir(self.shards) as entries:
            return {int(e.name[:-5]) for e in entries if e.name.endswith(".json")}

    def has_shard(self, index: int) -> bool:
        """Whether one shard is done, without listing the others."""
        return self._marker(index).exists()

    def pending_shards(self) -> list[int]:
        """Indices of the shards still to do, in order."""
        done = self.committed_shards()
        return [index for index in range(self.num_shards) if index not in done]

    def write_shard(
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
        data = self.shards / f"{index:05d}-{secrets.token_hex(4)}.parquet"
        pending = data.with_suffix(".tmp")
        buffer = to_parquet(table)
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

    def read_shard(self, index: int, columns: Collection[str] | None = None) -> pa.Table:
        """Those of `columns` that a committed shard has (all if None), and nothing else from disk.

        Raises:
            ArtifactError: the shard is not committed, or its file is missing or damaged.
        """
        marker = self.marker(index)
        path = self.shards / marker.file
        try:
            source = checked(path, marker) if marker.size <= HASHED_BYTES else path
            with pq.ParquetFile(source, page_checksum_verification=True) as file:
                names = [n for n in file.schema_arrow.names if columns is None or n in columns]
                return file.read(columns=names)
        except (OSError, pa.ArrowException) as error:
            raise ArtifactError(f"Shard {path} is missing or damaged ({error}). {self._remedy()}") from error

    def damage(self, index: int) -> str:
        """What is wrong with a committed shard, by its whole content, and with which file; "" where nothing is."""
        try:
            marker = self.marker(index)
        except ArtifactError as error:
            return str(error)
        path = self.shards / marker.file
        try:
            checked(path, marker)
            self.read_shard(index)
        except OSError as error:
            return f"{path}: {error}."
        except ArtifactError as error:
            return str(error)
        return ""

    def forget(self, indices: Collection[int]) -> None:
        """Take these shards back, so that they are computed anew; the stage is then no longer finished."""
        (self.folder / "manifest.json").unlink(missing_ok=True)
        for index in indices:
            # Its data file is a stray, cleared at the next commit.
            self._marker(index).unlink(missing_ok=True)

    def _remedy(self) -> str:
        run = self.folder.parent
        return (
            f"`rayflow verify {run} --repair` takes back every damaged shard and what was made from it; the next "
            "run computes only those anew."
        )

    def commit(self, started: float, seconds: float, extra: dict[str, Any] | None = None) -> Manifest:
        """Write the failures and the manifest; the stage is then finished.

        Args:
            started: Unix time.
            seconds: wall time of the stage.
            extra: JSON values of the stage's own.
        """
        num_shards = self.num_shards
        totals: Counter[str] = Counter()
        kept = set()
        log = self.folder / "failures.jsonl"
        with writing(log), open(log, "w", encoding="utf-8") as sink:
            for marker in map(self.marker, range(num_shards)):
                kept.add(marker.file)
                totals.update(rows=marker.rows, tokens=marker.tokens, failed=len(marker.failures))
                sink.writelines(json.dumps(asdict(f), ensure_ascii=False) + "\n" for f in marker.failures)
        if not totals["failed"]:
            log.unlink()
        for stray in self.shards.iterdir():  # left by writers that were killed before their marker
            if stray.suffix != ".json" and stray.name not in kept:
                stray.unlink(missing_ok=True)
        identity = self.identity or {}
        manifest = Manifest(
            name=self.name,
            fingerprint=fingerprint(identity),
            identity=identity,
            num_shards=num_shards,
            num_rows=totals["rows"],
            num_failed=totals["failed"],
            num_tokens=totals["tokens"],
            started=started,
            seconds=seconds,
            extra=extra or {},
        )
        write_json(self.folder / "manifest.json", asdict(manifest))
        return manifest

    def manifest(self) -> Manifest:
        """The manifest of a committed stage.

        Raises:
            ArtifactError: not committed, or written by a version with another format.
        """
        path = self.folder / "manifest.json"
        if not path.exists():
            raise ArtifactError(f"Stage {self.folder} is not finished; run it first.")
        data = read_stored(path)
        try:
            return Manifest(**data)
        except TypeError as error:
            raise ArtifactError(
                f"{path} is damaged, or another version's ({error}). {OTHER_VERSION}"
            ) from error

    def failures(self) -> Iterator[Failure]:
        """The failed rows of the shards that are committed."""
        for index in sorted(self.committed_shards()):
            yield from self.marker(index).failures

    def set_aside(self) -> None:
        """Move the folder out of the way, into the run's `.replaced`, so that the stage starts anew."""
        if self.folder.exists():
            bin_folder = self.folder.parent / ".replaced"
            bin_folder.mkdir(exist_ok=True)
            shutil.move(self.folder, bin_folder / f"{self.folder.name}-{secrets.token_hex(4)}")

    def _marker(self, index: int) -> Path:
        return self.shards / f"{index:05d}.json"
