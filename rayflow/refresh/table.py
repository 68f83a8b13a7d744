"""The preference table: a Delta table whose every version is one whole refresh. The only user of `deltalake`.

A refresh is one MERGE and so one entry of the Delta log: rows of prompts that are gone vanish, computed rows
come in, all others stay as they are, and a reader sees all of it or nothing. The entry carries the name of the
attempt as a transaction marker, by which a restarted refresh knows that it has been written.
"""

from __future__ import annotations

import time
from collections.abc import Collection, Iterable, Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from rayflow.errors import ArtifactError, BusyError, MissingPackageError
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
        """The newest version, promoted or not."""
        return self._open().version()

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

    def replace(self, stubs: Iterable[pa.Table], rows: Iterable[pa.Table], attempt: str) -> int:
        """Make a version of the table that holds what `stubs` name, unchanged, and `rows`; nothing else.

        Args:
            stubs: prompts whose rows stay (see `rows.stubs`).
            rows: new rows; one whose prompt is in the table replaces it.
            attempt: the marker that goes with it.

        Returns:
            The version's number.

        Raises:
            BusyError: somebody else wrote meanwhile; nothing of this was written.
        """
        delta = _deltalake()
        batches = (batch for part in (stubs, rows) for table in part for batch in table.to_batches())
        marker = delta.Transaction(app_id=_app(attempt), version=1, last_updated=round(time.time() * 1000))
        merge = self._open().merge(
            pa.RecordBatchReader.from_batches(SCHEMA, batches),
            "old.prompt_id = new.prompt_id",
            source_alias="new",
            target_alias="old",
            commit_properties=delta.CommitProperties(
                custom_metadata={"rayflow.attempt": attempt}, app_transactions=[marker], max_commit_retries=0
            ),
        )
        merge = merge.when_matched_update_all(predicate="new.content IS NOT NULL")
        merge = merge.when_not_matched_insert_all(predicate="new.content IS NOT NULL")
        try:
            merge.when_not_matched_by_source_delete().execute()
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

    def vacuum(self, keep: Collection[int], grace_hours: int) -> int:
        """Delete the data files that none of these versions, nor the newest, needs; returns how many."""
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


def _app(attempt: str) -> str:
    return f"rayflow-refresh/{attempt}"


def _deltalake() -> Any:
    try:
        import deltalake
        import deltalake.exceptions
    except ImportError:
        raise MissingPackageError("deltalake", "A preference table", "refresh") from None
    return deltalake
