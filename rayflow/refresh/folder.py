"""Where a refresh keeps everything, and the small records beside its table.

    <runs_dir>/<name>/
      refresh.json               what this folder is
      table/                     the Delta table; its versions are numbered by its log
      versions/00000003.json     what is known of a version, the gate's verdict included
      promoted/00000003.json     exists once that version was promoted; readers read the highest
      days/2026-11-20.json       exists once that day is done; says which version it has
      lease/00000007.json        who works here (see `lease`)
      attempts/2026-11-20-1/     one try at a date: plan.json, todo.jsonl, run/, done.json, report.html
      trained/version-3/         the run that trained on that version, where `train` is asked for
      exports/groups-3/          the version as that run reads it; there until it is done
      report.html                the last refresh's

A promotion is a file that is created exclusively and named by its version, so that promoting twice is
promoting once, and a straggler can never move readers back.
"""

from __future__ import annotations

import json
import os
import secrets
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from rayflow.core.files import read_json, write_json
from rayflow.errors import ArtifactError

FORMAT = 1
_MARK = "refresh.json"


@dataclass(frozen=True, kw_only=True)
class VersionRecord:
    """What is known of one version of the table.

    Attributes:
        version: its number in the Delta log.
        date: the day it was made for, ISO.
        attempt: the try that made it, such as "2026-11-20-1".
        created: Unix time.
        recipe: policy, and fingerprints of sampling, reward and selection (see `recipe.Recipe`).
        counts: prompts by what became of them (see `changes.Counts`).
        measures: numbers of the "whole" version and of the "fresh" rows (see `measure.Measures`).
        verdicts: the gate's checks (see `gate.Verdict`).
        baseline: the promoted version it was compared with; None for the first one.
        passed: whether every check passed.
        settings: what each part of the recipe was made of, by its name; empty in records of older versions.
        removed: Unix time at which retention removed its data; None while it is readable.
    """

    version: int
    date: str
    attempt: str
    created: float
    recipe: dict[str, str]
    counts: dict[str, Any]
    measures: dict[str, Any]
    verdicts: list[dict[str, Any]]
    baseline: int | None
    passed: bool
    settings: dict[str, dict[str, Any]] = field(default_factory=dict)
    removed: float | None = None
    format: int = field(default=FORMAT)

    @property
    def reasons(self) -> list[str]:
        """Why the gate held it back, a sentence each."""
        return [verdict["reason"] for verdict in self.verdicts if not verdict["passed"]]


class RefreshFolder:
    """The paths and records of one refresh; cheap, holds nothing open."""

    def __init__(self, root: Path) -> None:
        self.root = Path(root)
        self.table = self.root / "table"
        self.versions = self.root / "versions"
        self.promotions = self.root / "promoted"
        self.days = self.root / "days"
        self.lease = self.root / "lease"
        self.attempts = self.root / "attempts"

    @classmethod
    def open(cls, path: Path) -> RefreshFolder:
        """The folder of an existing refresh, or the one that a table lies in.

        Raises:
            ArtifactError: neither; or written by a version with another format.
        """
        path = Path(path).absolute()
        for root in (path, path.parent):
            if (root / _MARK).exists():
                found = read_json(root / _MARK).get("format")
                if found != FORMAT:
                    raise ArtifactError(f"{root} has format {found}, this version reads {FORMAT}.")
                return cls(root)
        raise ArtifactError(f"{path} holds no preference table of `rayflow refresh`: it has no {_MARK}.")

    def check(self) -> None:
        """Look whether a refresh may be kept here; nothing is written.

        Raises:
            ArtifactError: the folder holds something else, such as a run, or a refresh of another format.
        """
        # Looked at before the mark: another refresh may be making the folder at this moment, the mark first.
        found = os.listdir(self.root) if self.root.exists() else []
        if (self.root / _MARK).exists():
            self.open(self.root)
        elif any(not name.startswith(f".{_MARK}") for name in found):
            raise ArtifactError(
                f"{self.root} exists and is not a refresh's folder. Give the refresh another name "
                "(--set name=...) or another place (--set runs_dir=...)."
            )

    def create(self, name: str) -> None:
        """Make the folder, or check that it is one.

        Raises:
            ArtifactError: as `check`.
        """
        self.check()
        if not (self.root / _MARK).exists():
            self.root.mkdir(parents=True, exist_ok=True)
            create_json(self.root / _MARK, {"name": name, "created": time.time(), "format": FORMAT})
        for folder in (self.versions, self.promotions, self.days, self.lease, self.attempts):
            folder.mkdir(exist_ok=True)

    def groups(self, version: int) -> Path:
        """Where a version is written for its training."""
        return self.root / "exports" / f"groups-{version}"

    @staticmethod
    def is_one(path: Path) -> bool:
        """Whether a folder is a refresh's, or the table in one."""
        path = Path(path).absolute()
        return any((root / _MARK).exists() for root in (path, path.parent))

    @property
    def name(self) -> str:
        """The refresh's name."""
        return str(read_json(self.root / _MARK)["name"])

    def records(self) -> list[VersionRecord]:
        """Every version that has been judged, oldest first."""
        return [self.record(version) for version in _numbers(self.versions)]

    def record(self, version: int) -> VersionRecord:
        """What is known of a version.

        Raises:
            ArtifactError: there is no such version.
        """
        path = _numbered(self.versions, version)
        if not path.exists():
            known = ", ".join(map(str, _numbers(self.versions))) or "none yet"
            raise ArtifactError(f"{self.root} has no version {version}. Versions: {known}.")
        return VersionRecord(**read_json(path))

    def write_record(self, record: VersionRecord) -> None:
        """Store what is known of a version; a later verdict on the same version replaces it."""
        write_json(_numbered(self.versions, record.version), asdict(record))

    def mark_removed(self, version: int) -> None:
        """Note that a version's data is gone."""
        self.write_record(replace(self.record(version), removed=time.time()))

    def promoted(self) -> dict[int, dict[str, Any]]:
        """Promotions by version: `promoted` (Unix time), `by` ("gate" or "hand")."""
        return {v: read_json(_numbered(self.promotions, v)) for v in _numbers(self.promotions)}

    @property
    def latest(self) -> int | None:
        """The version that readers get: the highest one promoted; None before the first."""
        return max(_numbers(self.promotions), default=None)

    def promote(self, version: int, by: str) -> None:
        """Give a version to the readers, in one step; promoting it again changes nothing."""
        data = {"version": version, "promoted": time.time(), "by": by}
        create_json(_numbered(self.promotions, version), data)

    def day(self, date: str) -> int | None:
        """The version that a day has; None while it is not done."""
        path = self.days / f"{date}.json"
        return int(read_json(path)["version"]) if path.exists() else None

    def finish_day(self, date: str, version: int) -> None:
        """Nothing is left to do for a day."""
        create_json(self.days / f"{date}.json", {"version": version, "finished": time.time()})


def create_json(path: Path, data: dict[str, Any]) -> bool:
    """Create a JSON file, whole and only if there is none; returns whether this call did."""
    pending = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    try:
        with open(pending, "w", encoding="utf-8") as sink:
            json.dump(data, sink, ensure_ascii=False, indent=2)
            sink.flush()
            os.fsync(sink.fileno())
        os.link(pending, path)  # fails if it exists: the first writer wins
    except FileExistsError:
        # 2: it was this call, and a network file system lost the answer
        return pending.stat().st_nlink == 2
    finally:
        pending.unlink(missing_ok=True)
    return True


def numbers(folder: Path) -> Iterator[int]:
    """The numbers of the records in a folder, in no order."""
    if folder.is_dir():
        with os.scandir(folder) as entries:
            yield from (int(e.name[:-5]) for e in entries if e.name[:-5].isdigit())


def _numbers(folder: Path) -> list[int]:
    return sorted(numbers(folder))


def _numbered(folder: Path, number: int) -> Path:
    return folder / f"{number:08d}.json"
