"""Where Ray's authentication token comes from on this machine, read without importing Ray.

In Ray's own order: the variable RAY_AUTH_TOKEN, the file that RAY_AUTH_TOKEN_PATH names, `~/.ray/auth_token`.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path

MODE = "RAY_AUTH_MODE"
TOKEN = "RAY_AUTH_TOKEN"
TOKEN_PATH = "RAY_AUTH_TOKEN_PATH"


@dataclass(frozen=True)
class RayToken:
    """A token and its origin.

    Attributes:
        value: the token; never printed, not even in this object's own text.
        file: the file that it was read from, or None for the environment.
    """

    value: str = field(repr=False)
    file: Path | None = None

    @property
    def exposed(self) -> bool:
        """Whether other users of this machine can read the file."""
        return self.file is not None and bool(self.file.stat().st_mode & 0o077)


def token_file() -> Path:
    """The file that Ray would read the token from."""
    named = os.environ.get(TOKEN_PATH)
    return Path(named).expanduser() if named else Path.home() / ".ray" / "auth_token"


def find_token() -> RayToken | None:
    """The token of this machine, or None; also None where authentication is switched off."""
    if os.environ.get(MODE, "token").lower() == "disabled":
        return None
    given = os.environ.get(TOKEN, "").strip()
    if given:
        return RayToken(given)
    path = token_file()
    try:
        text = path.read_text(encoding="utf-8").strip()
    except OSError:
        return None
    return RayToken(text, path) if text else None
