"""The manifest of a committed stage, and the format of what is stored."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rayflow.core.files import read_json
from rayflow.errors import ArtifactError

FORMAT = 2
"""Of what is stored. A change that this version's reader would not understand raises it."""
OTHER_VERSION = "Use the version that wrote it, or give the run a new name."


@dataclass(frozen=True)
class Manifest:
    """What is known of a committed stage; `extra` holds what the stage itself adds."""

    name: str
    fingerprint: str
    identity: dict[str, Any]
    num_shards: int
    num_rows: int
    num_failed: int
    num_tokens: int
    started: float
    seconds: float
    extra: dict[str, Any] = field(default_factory=dict)
    format: int = FORMAT


def read_stored(path: Path) -> dict[str, Any]:
    """`stage.json` or `manifest.json`, of the format that this version reads.

    Raises:
        ArtifactError: unreadable, or an older or newer version's.
    """
    try:
        data = read_json(path)
    except ArtifactError as error:
        raise ArtifactError(f"{error} {remedy(path.parent.parent)}") from error
    found = data.get("format", FORMAT if path.name == "stage.json" else None)
    if found != FORMAT:
        raise ArtifactError(f"{path} has format {found}, this version reads {FORMAT}. {OTHER_VERSION}")
    return data


def remedy(run: Path) -> str:
    """What to do about damage in a run's folder."""
    return (
        f"`rayflow verify {run} --repair` takes back what is damaged and what was made from it; the next run computes "
        "only that anew."
    )
