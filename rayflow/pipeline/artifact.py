"""A stage's folder on disk: what the stage is, its shards, and a manifest that is written last.

NN-name/
  stage.json      what the stage is: its identity and its number of shards, fixed at the start (by the prompts,
                  which decide it, at their end)
  shards/         its rows (see `shards`)
  failures.jsonl  the rows that failed, with reasons
  seconds.json    of a stage without shards: what all calls have spent on it
  manifest.json   written by rename at the end: the stage is committed once this exists
"""

from __future__ import annotations

import json
import secrets
import shutil
from collections import Counter
from collections.abc import Collection
from dataclasses import asdict
from pathlib import Path
from typing import Any

from rayflow.core.files import read_json, replacing, write_json, writing
from rayflow.errors import ArtifactError
from rayflow.pipeline.identity import differences, fingerprint
from rayflow.pipeline.manifest import FORMAT, OTHER_VERSION, Manifest, read_stored
from rayflow.pipeline.shards import Shards

_AFTER_SCORES = ("range", "select", "pair", "reference", "train")
"""Stages of a run that `rayflow select` makes, or leaves to be made, from stored samples and scores."""


class Artifact:
    """One stage's folder. Cheap to build and to send to a worker; holds no open files."""

    def __init__(self, folder: Path) -> None:
        self.folder = Path(folder)
        self.shards = Shards(self.folder / "shards")

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
            with writing(self.shards.folder):
                self.shards.folder.mkdir(parents=True, exist_ok=True)
            sized = {} if shard_size is None else {"shard_size": shard_size}
            stage = {"identity": identity, "num_shards": num_shards, "format": FORMAT, **sized}
            write_json(self.folder / "stage.json", stage)
        else:
            self.check(identity)

    def settle(self, num_shards: int) -> None:
        """Fix the number of shards of a stage that was begun without one."""
        stage = self.folder / "stage.json"
        write_json(stage, {**read_json(stage), "num_shards": num_shards})

    def changes(self, identity: dict[str, Any]) -> str:
        """What another identity would change in the stored stage, a line each; "" for nothing, or if not begun."""
        stored = self.identity
        found = [] if stored is None else differences(stored, identity)
        return "\n".join(f"  {line}" for line in found)

    def check(self, identity: dict[str, Any]) -> None:
        """Refuse a stored stage that another configuration made, naming every field that differs."""
        changes = self.changes(identity)
        if not changes:
            return
        raise ArtifactError(
            f"{self.folder} was made from another configuration:\n{changes}\n"
            f"Give the run a new name (--set name=...), or redo this stage and what depends on it "
            f"with --force-stage {self.name}.{self._other_way()}"
        )

    def _other_way(self) -> str:
        """How to try another setting without losing this run or its samples, where only what follows them changed."""
        run = self.folder.parent
        if self.name not in _AFTER_SCORES or not any(run.glob("[0-9][0-9]-sample/manifest.json")):
            return ""
        return (
            f" A new run that keeps this one's samples and scores: rayflow select {run} --name NEW --set ... "
            "(the changed settings)."
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

    def pending_shards(self) -> list[int]:
        """Indices of the shards still to do, in order."""
        done = self.shards.committed()
        return [index for index in range(self.num_shards) if index not in done]

    def forget(self, indices: Collection[int]) -> None:
        """Take these shards back, so that they are computed anew; the stage is then no longer finished."""
        (self.folder / "manifest.json").unlink(missing_ok=True)
        self.shards.forget(indices)

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
        # Never in place: the file may be another run's too (see `share`).
        with replacing(log) as pending, open(pending, "w", encoding="utf-8") as sink:
            for marker in map(self.shards.marker, range(num_shards)):
                kept.add(marker.file)
                totals.update(rows=marker.rows, tokens=marker.tokens, failed=len(marker.failures))
                sink.writelines(json.dumps(asdict(f), ensure_ascii=False) + "\n" for f in marker.failures)
        if not totals["failed"]:
            log.unlink()
        self.shards.clear_strays(kept)
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

    def set_aside(self) -> None:
        """Move the folder out of the way, into the run's `.replaced`, so that the stage starts anew."""
        if self.folder.exists():
            bin_folder = self.folder.parent / ".replaced"
            bin_folder.mkdir(exist_ok=True)
            shutil.move(self.folder, bin_folder / f"{self.folder.name}-{secrets.token_hex(4)}")
