"""What a folder on disk is: the configuration that its job was made from."""

from __future__ import annotations

import difflib
import re
from collections.abc import Sequence
from pathlib import Path

from rayflow.config import Config, JobConfig, RunConfig, as_override, load_config, schema_of
from rayflow.errors import ArtifactError

_INSIDE = re.compile(
    r"(?<=[^/])/(round-\d+|rows/[^/]+/seed-[^/]+|gold/[^/]+/candidates|trained/version-\d+|attempts/[^/]+/run)$"
)
"""The runs that rounds, studies and refreshes make in their own folders."""
_OF_STUDY = ("preferences", "proxy", "shared")
"""Those right in a study's folder, whose names any run may have."""


def run_name(root: Path) -> str:
    """What tells a run from all others: its folder's path from that of the job that it is a part of, if it is of any.

    "NAME", "NAME/round-2", "STUDY/rows/ROW/seed-1". Names of runs have no slash, so below one folder of
    runs no two are the same.
    """
    top = root.absolute()
    while found := _INSIDE.search(top.as_posix()):
        top = Path(top.as_posix()[: found.start()])
    if top.name in _OF_STUDY and (top.parent / "config.yaml").exists():
        top = top.parent
    return root.absolute().relative_to(top.parent).as_posix()


def job_of(folder: Path) -> type[JobConfig]:
    """The kind of job whose folder this is; a run's, where nothing says otherwise."""
    path = folder / "config.yaml"
    return schema_of(path) if path.exists() else RunConfig


def stored_config(folder: Path, schema: type[Config], overrides: Sequence[str] = ()) -> Config:
    """The configuration in a job's folder, wherever the folder lies now.

    Args:
        folder: the job's.
        schema: the kind of job.
        overrides: "a.b=value" settings, as in `load_config`.

    Raises:
        ArtifactError: it holds none.
    """
    path = folder / "config.yaml"
    if not path.exists():
        if (last := last_round(folder)) != folder:
            raise ArtifactError(f"{folder} holds a run in rounds: name one of them, such as {last}.")
        raise no_job(folder)
    here = folder.absolute()
    place = [as_override("runs_dir", here.parent), as_override("name", here.name)]
    return load_config(path, [*place, *overrides], schema)


def no_job(folder: Path) -> ArtifactError:
    """What to say of a path that is not a job's folder."""
    if not folder.exists():
        siblings = [path.parent.name for path in folder.parent.glob("*/config.yaml")]
        near = difflib.get_close_matches(folder.name, siblings, n=1, cutoff=0.7)
        hint = f" Did you mean {folder.parent / near[0]}?" if near else ""
        return ArtifactError(f"{folder} does not exist.{hint}")
    if not folder.is_dir():
        return ArtifactError(f"{folder} is a file: give the folder that a run was written to.")
    if (folder / "refresh.json").exists():
        return ArtifactError(
            f"{folder} is a refresh's folder, not a run's: `rayflow table {folder}` shows it."
        )
    if inside := sorted(folder.glob("*/config.yaml")):
        return ArtifactError(f"{folder} is not a run's folder; it holds some, such as {inside[0].parent}.")
    return ArtifactError(f"{folder} is not a run's folder: it has no config.yaml.")


def config_of(given: Path, overrides: Sequence[str], schema: type[Config]) -> Config:
    """The configuration in a YAML file, or the one that a job's folder was made from, to go on with it.

    Raises:
        ConfigError: it cannot be used.
        ArtifactError: a folder of no job.
    """
    if given.is_dir():
        return stored_config(given, schema, overrides)
    return load_config(given, list(overrides), schema)


def last_round(folder: Path) -> Path:
    """The folder itself, or of a run in rounds the last round's.

    Raises:
        ArtifactError: no run's folder.
    """
    rounds = sorted(folder.glob("round-*/config.yaml"), key=lambda path: int(path.parent.name[6:]))
    if not (folder / "config.yaml").exists() and rounds:
        return rounds[-1].parent
    return folder
