"""From a promoted version to a trained policy: a run of its own over the table's groups, resumable as any run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from rich.console import Console

from rayflow.config import RunConfig
from rayflow.config.refresh import RefreshConfig
from rayflow.pipeline import commands
from rayflow.pipeline.rounds import round_config
from rayflow.pipeline.run_plan import build_run_plan
from rayflow.refresh.export import export
from rayflow.refresh.folder import RefreshFolder
from rayflow.refresh.retention import remove_groups
from rayflow.refresh.table import PreferenceTable


def train_config(config: RefreshConfig, folder: RefreshFolder, version: int) -> RunConfig:
    """The run that trains on a version: the refresh's own loss, reference and evaluation, the table's responses."""
    # "score: always" is any refresh's, whatever its file says; a run on given responses samples nothing to score.
    data = config.model_dump(mode="json", exclude={"refresh", "score"})
    groups = folder.groups(version)
    data |= {"source": "direct", "select": None, "pair": None}
    data |= {"name": f"version-{version}", "runs_dir": str(folder.root / "trained")}
    data["prompts"]["train"] = {"path": str(groups / "data"), "layout": {"kind": "groups"}}
    # What the sampler said of its tokens is not in the table: texts are encoded anew, and the reference reads them.
    data["reference"]["source"] = "recompute"
    _leave_out_sampling(data)
    run = RunConfig.model_validate(data)
    return round_config(run, 1, run.model)  # as it is run, and stored: with the overrides of its one round


def _leave_out_sampling(data: dict[str, Any]) -> None:
    """What has drawn the table's responses draws none here; how the policies answer held-out prompts stays."""
    if data["prompts"]["evaluation"] is None and data["train"]["choose"] is None:
        del data["sample"], data["compute"]["sample"]  # both, for the one may not fit the other's default
    else:
        data["sample"]["model"] = None


def train(config: RefreshConfig, version: int, console: Console) -> Path:
    """Train on a version, or go on with that, or find it done; returns the policy's folder.

    The copy of the version that the training reads is there only while it is not done.

    Raises:
        BusyError: another process is training on it.
    """
    folder = RefreshFolder(config.root)
    run = train_config(config, folder, version)
    # By the plan: another one, say without `train.choose`, may have left its training in a folder of another number.
    trained = build_run_plan(run).artifacts["train"]
    if folder.groups(version).exists() or not (trained.committed and _ended(run)):
        _write(folder, version)
        commands.run(run, console)
        remove_groups(folder, version)
    return trained.folder / "model"


def _write(folder: RefreshFolder, version: int) -> None:
    """The copy that the training reads, if it is not there yet."""
    groups = folder.groups(version)
    if not groups.exists():
        try:
            export(PreferenceTable(folder.table), folder.record(version), groups, "groups")
        except OSError:
            if not groups.exists():  # another call was faster, with the same rows
                raise


def _ended(run: RunConfig) -> bool:
    """Whether this very configuration has been run to its end; another one is the run's own to refuse or to go on."""
    stored = run.root / "config.yaml"
    ended = (run.root / "summary.json").exists() and stored.exists()
    return ended and stored.read_text(encoding="utf-8") == run.to_yaml()
