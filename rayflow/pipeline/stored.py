"""What a folder on disk is: the configuration that its job was made from."""

from __future__ import annotations

from pathlib import Path

import yaml

from rayflow.config import Config, RunConfig, load_config
from rayflow.config.evaluate import EvaluateConfig
from rayflow.config.reward import RewardConfig
from rayflow.errors import ArtifactError

_MARKS = {"data": RewardConfig, "policy": EvaluateConfig}
"""A block that only this kind of job has."""


def job_of(folder: Path) -> type[RunConfig] | type[RewardConfig] | type[EvaluateConfig]:
    """The kind of job whose folder this is; a run's, where nothing says otherwise."""
    path = folder / "config.yaml"
    stored = yaml.safe_load(path.read_text(encoding="utf-8")) if path.exists() else {}
    return next((schema for block, schema in _MARKS.items() if block in stored), RunConfig)


def stored_config(folder: Path, schema: type[Config]) -> Config:
    """The configuration in a job's folder, wherever the folder lies now.

    Raises:
        ArtifactError: it holds none.
    """
    path = folder / "config.yaml"
    if not path.exists():
        raise ArtifactError(f"{folder} is not a run's folder: it has no config.yaml.")
    here = folder.absolute()
    return load_config(path, [f"runs_dir={here.parent}", f"name={here.name}"], schema)


def last_round(folder: Path) -> Path:
    """The folder itself, or of a run in rounds the last round's.

    Raises:
        ArtifactError: no run's folder.
    """
    rounds = sorted(folder.glob("round-*/config.yaml"), key=lambda path: int(path.parent.name[6:]))
    if not (folder / "config.yaml").exists() and rounds:
        return rounds[-1].parent
    return folder
