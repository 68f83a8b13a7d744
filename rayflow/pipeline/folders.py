"""What a folder on disk is: the configuration that its job was made from."""

from __future__ import annotations

from pathlib import Path

from rayflow.config import Config, JobConfig, RunConfig, as_override, load_config, schema_of
from rayflow.errors import ArtifactError


def job_of(folder: Path) -> type[JobConfig]:
    """The kind of job whose folder this is; a run's, where nothing says otherwise."""
    path = folder / "config.yaml"
    return schema_of(path) if path.exists() else RunConfig


def stored_config(folder: Path, schema: type[Config]) -> Config:
    """The configuration in a job's folder, wherever the folder lies now.

    Raises:
        ArtifactError: it holds none.
    """
    path = folder / "config.yaml"
    if not path.exists():
        raise ArtifactError(f"{folder} is not a run's folder: it has no config.yaml.")
    here = folder.absolute()
    return load_config(path, [as_override("runs_dir", here.parent), as_override("name", here.name)], schema)


def last_round(folder: Path) -> Path:
    """The folder itself, or of a run in rounds the last round's.

    Raises:
        ArtifactError: no run's folder.
    """
    rounds = sorted(folder.glob("round-*/config.yaml"), key=lambda path: int(path.parent.name[6:]))
    if not (folder / "config.yaml").exists() and rounds:
        return rounds[-1].parent
    return folder
