"""The first thing that a submitted job does on the cluster: put in place what travelled with it."""

from __future__ import annotations

import os
import secrets
import shutil
from pathlib import Path

import yaml

from rayflow.core.sealed import unseal
from rayflow.errors import ConfigError
from rayflow.pipeline.package import INPUTS, STORE

SUBMITTED = "RAYFLOW_SUBMITTED"
"""Set where a submitted job runs, so that its command line begins here."""
REQUIRED = "RAYFLOW_REQUIRED_ENV"
"""Names, separated by commas, of variables that the cluster's machines must have of their own."""


def arrive(folder: Path | None = None) -> None:
    """Open the secrets, look for the variables that the job counts on, and store its data beside the runs.

    Args:
        folder: what was sent; None is the working folder, where Ray unpacks it.

    Raises:
        ConfigError: a variable is missing, or the data cannot be stored.
    """
    unseal()
    missing = [name for name in os.environ.get(REQUIRED, "").split(",") if name and name not in os.environ]
    if missing:
        raise ConfigError(
            f"The job needs the environment variable {', '.join(missing)}, which this machine of the cluster does not "
            "have. Set it there (in Kubernetes: a secret of the pods), or send it with --env."
        )
    folder = folder or Path.cwd()
    runs_dir = yaml.safe_load((folder / "config.yaml").read_text(encoding="utf-8"))["runs_dir"]
    if (folder / INPUTS).is_dir():
        place(folder / INPUTS, Path(runs_dir).expanduser() / STORE)


def place(inputs: Path, store: Path) -> None:
    """Copy what is not there yet, whole or not at all; names are hashes of the content.

    Raises:
        ConfigError: the place cannot be written.
    """
    try:
        store.mkdir(parents=True, exist_ok=True)
        for source in inputs.iterdir():
            target = store / source.name
            if target.exists():
                continue
            pending = store / f".{source.name}.{secrets.token_hex(4)}"
            (shutil.copytree if source.is_dir() else shutil.copy)(source, pending)
            try:
                pending.rename(target)
            except OSError:  # another job was first; what it stored has the same content
                shutil.rmtree(pending, ignore_errors=True)
    except OSError as error:
        raise ConfigError(
            f"The job's data cannot be stored in {store}: {error}. runs_dir must be storage that every machine of the "
            "cluster may write."
        ) from error
