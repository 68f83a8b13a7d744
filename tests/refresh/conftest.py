"""A small refresh with an engine that counts, and ways to run it and to look at its table."""

from __future__ import annotations

import io
import json
import shutil
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest
import yaml
from rich.console import Console

from rayflow.config import load_config
from rayflow.config.refresh import RefreshConfig
from rayflow.refresh import commands
from rayflow.refresh.folder import RefreshFolder
from rayflow.refresh.table import PreferenceTable
from tests.refresh.engines import asked

DAYS = [f"2026-11-{day:02d}" for day in range(1, 29)]


class Nightly:
    """A refresh in a folder of its own: its data, its configuration, its table."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.prompts = folder / "prompts.jsonl"
        self.log = folder / "asked.txt"
        self.path = folder / "nightly.yaml"
        self.said = ""
        settings = {
            "name": "nightly",
            "runs_dir": str(folder / "runs"),
            "seed": 3,
            "model": "fake",
            "prompts": {"train": {"path": str(self.prompts)}},
            "sample": {
                "engine": {"kind": "tests.refresh.engines:CountingEngine", "log": str(self.log)},
                "num_candidates": 16,
                "max_tokens": 40,
            },
            "reward": {"kind": "rule", "function": "tests.pipeline.conftest:cheerful"},
            "select": {"beta": 0.1, "num_accepted": 4},
            "compute": {"runner": "local", "shard_size": 4},
            "refresh": {"retention": {"grace_hours": 0}},
        }
        self.path.write_text(yaml.safe_dump(settings))
        self.write(range(20))

    def write(self, names: Iterable[Any], **more: Any) -> None:
        """The data: one prompt per name; `more` are further keys of every row."""
        rows = [{"prompt": f"Tell me all you know about {name}."} | more for name in names]
        self.prompts.write_text("".join(json.dumps(row) + "\n" for row in rows))

    def config(self, *settings: str) -> RefreshConfig:
        """The configuration with some settings changed."""
        return load_config(self.path, list(settings), RefreshConfig)

    def run(self, day: str, *settings: str) -> int:
        """Refresh; returns the exit code. What was printed is in `said`."""
        text = io.StringIO()
        code = commands.refresh(self.config(*settings), day, Console(file=text, width=200))
        self.said = text.getvalue()
        return code

    def asked(self) -> list[str]:
        """What the engine was asked since the last call."""
        return asked(self.log)

    @property
    def root(self) -> RefreshFolder:
        """The refresh's folder."""
        return RefreshFolder(self.config().root)

    @property
    def table(self) -> PreferenceTable:
        """The table in it."""
        return PreferenceTable(self.root.table)

    def rows(self, version: int | None = None) -> list[dict[str, Any]]:
        """The rows of a version, by prompt id; of the promoted one by default."""
        chosen = self.root.latest if version is None else version
        rows = [row for batch in self.table.batches(chosen) for row in batch.to_pylist()]
        return sorted(rows, key=lambda row: row["prompt_id"])


def copied(source: Nightly, folder: Path) -> Nightly:
    """The same refresh in another folder, its engine not asked yet."""
    copy = Nightly(folder)
    shutil.copytree(source.folder / "runs", folder / "runs")
    shutil.copy(source.prompts, copy.prompts)
    return copy


@pytest.fixture(scope="session")
def first_night(tmp_path_factory: pytest.TempPathFactory) -> Nightly:
    """Twenty prompts, refreshed once; to be copied, not changed."""
    nightly = Nightly(tmp_path_factory.mktemp("first-night"))
    assert nightly.run(DAYS[0]) == 0
    return nightly


@pytest.fixture
def refreshed(first_night: Nightly, tmp_path: Path) -> Nightly:
    """Twenty prompts, refreshed on the first day."""
    return copied(first_night, tmp_path)


@pytest.fixture
def nightly(tmp_path: Path) -> Nightly:
    """Twenty prompts, nothing refreshed yet."""
    return Nightly(tmp_path)
