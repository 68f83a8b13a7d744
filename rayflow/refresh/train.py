"""From a promoted version to a trained policy: a run of its own over the table's groups, resumable as any run."""

from __future__ import annotations

from pathlib import Path

from rich.console import Console

from rayflow.config import RunConfig
from rayflow.config.refresh import RefreshConfig
from rayflow.pipeline import commands
from rayflow.refresh.export import export
from rayflow.refresh.folder import RefreshFolder
from rayflow.refresh.table import PreferenceTable


def train_config(config: RefreshConfig, folder: RefreshFolder, version: int) -> RunConfig:
    """The run that trains on a version: the refresh's own loss, reference and evaluation, the table's responses."""
    data = config.model_dump(mode="json", exclude={"refresh"})
    groups = _groups(folder, version)
    data |= {"source": "direct", "select": None, "pair": None}
    data |= {"name": f"version-{version}", "runs_dir": str(folder.root / "trained")}
    data["prompts"]["train"] = {"path": str(groups / "data"), "layout": {"kind": "groups"}}
    # What the sampler said of its tokens is not in the table: texts are encoded anew, and the reference reads them.
    data["reference"]["source"] = "recompute"
    return RunConfig.model_validate(data)


def train(config: RefreshConfig, version: int, console: Console) -> Path:
    """Train on a version, or go on with that, or find it done; returns the policy's folder.

    Raises:
        BusyError: another process is training on it.
    """
    folder = RefreshFolder(config.root)
    groups = _groups(folder, version)
    if not groups.exists():
        try:
            export(PreferenceTable(folder.table), folder.record(version), groups, "groups")
        except OSError:
            if not groups.exists():  # another call was faster, with the same rows
                raise
    run = train_config(config, folder, version)
    commands.run(run, console)
    return next(run.root.glob("*-train")) / "model"


def _groups(folder: RefreshFolder, version: int) -> Path:
    return folder.root / "exports" / f"groups-{version}"
