"""Small JSON files that are always whole."""

from __future__ import annotations

import contextlib
import json
import os
import secrets
from pathlib import Path
from typing import Any

from rayflow.errors import ArtifactError


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object from a file.

    Raises:
        ArtifactError: missing or not JSON.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, json.JSONDecodeError, UnicodeDecodeError) as error:
        raise ArtifactError(f"{path} cannot be read ({error}).") from error


def write_json(path: Path, data: dict[str, Any]) -> None:
    """Write a JSON file so that readers see the old one or the whole new one."""
    pending = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    with contextlib.ExitStack() as undo:
        undo.callback(pending.unlink, missing_ok=True)
        with open(pending, "w", encoding="utf-8") as sink:
            json.dump(data, sink, ensure_ascii=False, indent=2)
            sink.flush()
            os.fsync(sink.fileno())
        os.replace(pending, path)
        undo.pop_all()
