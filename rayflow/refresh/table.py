"""The preference table: a Delta table whose every version is one whole refresh. The only user of `deltalake`.

A refresh is one entry of the Delta log: files with rows that go are left behind, files with new rows come in, all
others stay, and a reader sees all of it or nothing. The entry carries the name of the attempt as a transaction
marker, by which a restarted refresh knows that it has been written.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from rayflow.errors import ArtifactError, BusyError, MissingPackageError
from rayflow.refresh.parts import Partition, PartWriter, keep_rows, now_ms
from rayflow.refresh.rows import PARTITIONS, SCHEMA

BATCH_ROWS = 256
"""A row is a whole group, tens of kilobytes: this bounds what is held while a version is read."""


class PreferenceTable:
    """The table in a folder; every call looks at the log anew."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def create(self) -> None:
        """An empty table, if there is none yet. Its log is kept for good: it is what makes versions readable."""
        delta = _deltalake()
        if not self.exists:
            delta.DeltaTable.create(
                str(self.folder),
                schema=SCHEMA,
                partition_by=list(PARTITIONS),
                mode="ignore",
                configuration={
                    "delta.enableExpiredLogCleanup": "false",
                    "delta.logRetentionDuration": "interval 36500 days",
                },
            )

    @property
    def exists(self) -> bool:
        """Whether there is a table."""
        return (self.folder / "_delta_log").is_dir() and _deltalake().DeltaTable.is_deltatable(
            str(self.folder)
        )

    @property
    def head(self) -> int:
        """The newest version that a refresh wrote, promoted or not; 0, which is empty, before the first.

        The log counts clean-ups too, which change no row.
        """
        return next((e["version"] for e in self._open().history() if "rayflow.attempt" in e), 0)

    def batches(
        self,
        version: int,
        columns: Collection[str] | None = None,
        where: pc.Expression | None = None,
    ) -> Iterator[pa.RecordBatch]:
        """The rows of a version, in no particular order, a bounded number at a time.

        Args:
            version: which.
            columns: names; all if None. No other column is read from disk.
            where: only rows for which this holds.

        Raises:
            ArtifactError: no such version, or retention removed its data.
        """
        names = list(SCHEMA.names if columns is None else columns)
        try:
            data = self._open(version).to_pyarrow_dataset()
            for batch in data.to_batches(
                columns=names, filter=where, batch_size=BATCH_ROWS, batch_readahead=1, fragment_readahead=1
            ):
                if batch.num_rows:
                    yield batch
        except FileNotFoundError:
            raise ArtifactError(
                f"Version {version} of {self.folder} cannot be read any more: retention removed its data."
            ) from None

    def num_rows(self, version: int) -> int:
        """Rows of a version, from the log alone."""
        return self._open(version).count()

    def replace(self, carried: Collection[str], rows: Iterable[pa.Table], attempt: str) -> int:
        """Make a version of the table that holds the rows of these prompts as they are, and `rows`; nothing else.

        Args:
            carried: ids of the prompts whose rows stay.
            rows: new rows, of other prompts.
            attempt: the marker that goes with it, and a part of the new files' names.

        Returns:
            The version's number.

        Raises:
            BusyError: somebody else wrote meanwhile; nothing of this is in the table.
        """
        delta = _deltalake()
        table = self._open()
        writer = PartWriter(self.folder, attempt)
        left = keep_rows(self.folder, _files(table), carried, writer)
        writer.write(rows)
        now = now_ms()
        added = [
            delta.transaction.AddAction(p.path, p.size, p.values, now, True, p.stats) for p in writer.close()
        ]
        removed = [
            delta.transaction.RemoveAction(path, True, now, None, dict(zip(PARTITIONS, part, strict=True)))
            for path, part in left
        ]
        marker = delta.Transaction(app_id=_app(attempt), version=1, last_updated=now)
        properties = delta.CommitProperties(
            custom_metadata={"rayflow.attempt": attempt},
            app_transactions=[marker],
            max_commit_retries=0,  # the entry goes right after the version that was read, or nowhere
        )
        try:
            table.create_write_transaction(
                [*added, *removed], "append", SCHEMA, list(PARTITIONS), commit_properties=properties
            )
        except delta.exceptions.CommitFailedError as error:
            raise BusyError(f"Another process wrote to {self.folder} meanwhile ({error}).") from error
        version = self.written(attempt)
        assert version is not None
        return version

    def written(self, attempt: str) -> int | None:
        """The version that an attempt wrote; None if it has not."""
        table = self._open()
        if table.transaction_version(_app(attempt)) is None:
            return None
        entries: list[dict[str, Any]] = table.history()
        return next(e["version"] for e in entries if e.get("rayflow.attempt") == attempt)

    def attempt_of(self, version: int) -> str | None:
        """The attempt that wrote a version; None of the empty one, and of a clean-up."""
        entries: list[dict[str, Any]] = self._open().history()
        return next((e.get("rayflow.attempt") for e in entries if e["version"] == version), None)

    def vacuum(self, keep: Collection[int], grace_hours: int) -> int:
        """Delete the data files that none of these versions, nor the newest, needs; returns how many.

        Those of interrupted writes are among them. Files younger than `grace_hours` stay: somebody may be at them.
        """
        table = self._open()
        settings: dict[str, Any] = {
            "retention_hours": grace_hours,
            "enforce_retention_duration": False,
            "full": True,
            "keep_versions": sorted(keep),
        }
        if not table.vacuum(dry_run=True, **settings):  # a vacuum is an entry of the log: none for nothing
            return 0
        return len(table.vacuum(dry_run=False, **settings))

    def readable(self, version: int) -> bool:
        """Whether all data files of a version are there."""
        return all(Path(uri).exists() for uri in self._open(version).file_uris())

    def _open(self, version: int | None = None) -> Any:
        delta = _deltalake()
        try:
            return delta.DeltaTable(str(self.folder), version=version)
        except delta.exceptions.TableNotFoundError as error:
            raise ArtifactError(f"{self.folder} is not a Delta table ({error}).") from error
        except delta.exceptions.DeltaError as error:
            raise ArtifactError(f"{self.folder} has no version {version} ({error}).") from error


def _files(table: Any) -> list[tuple[str, Partition]]:
    """The data files of a version, with their partitions."""
    known = pa.table(table.get_add_actions(flatten=True)).to_pydict()
    partitions = zip(*(known.get(f"partition.{name}", []) for name in PARTITIONS), strict=True)
    return list(zip(known["path"], partitions, strict=True))


def _app(attempt: str) -> str:
    return f"rayflow-refresh/{attempt}"


def _deltalake() -> Any:
    try:
        import deltalake
        import deltalake.exceptions
        import deltalake.transaction
    except ImportError:
        raise MissingPackageError.of("deltalake", "A preference table", "refresh") from None
    return deltalake
