"""Who may talk to the Ray that a run uses: its token stays the owner's, and an open cluster is named.

A Ray that a run starts for itself has no dashboard and asks for a token; whoever reaches its ports without one
could run any code. A cluster that was there already may be open: then the run says so.
"""

from __future__ import annotations

import contextlib
import ipaddress
import os
import secrets
from pathlib import Path

from rayflow.dist.exposure import is_open

MODE, TOKEN = "RAY_AUTH_MODE", "RAY_AUTH_TOKEN"
"""Ray's own variables: "token" or "disabled", and the token itself."""


def token_path() -> Path:
    """Where Ray looks for a token that no variable names."""
    return Path.home() / ".ray" / "auth_token"


def make_private_token() -> None:
    """Give Ray a token that only its owner can read, where it would write one for everyone on the machine."""
    if os.environ.get(MODE, "token").lower() != "token" or {TOKEN, f"{TOKEN}_PATH"} & set(os.environ):
        return
    path = token_path()
    with contextlib.suppress(OSError):  # it is there, or home is read-only, of which Ray says more
        path.parent.mkdir(parents=True, exist_ok=True)
        pending = path.with_name(f".auth_token-{secrets.token_hex(4)}")
        with contextlib.ExitStack() as undo:
            undo.callback(pending.unlink, missing_ok=True)
            with open(
                os.open(pending, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="ascii"
            ) as file:
                file.write(secrets.token_hex(32))
            os.link(pending, path)  # whole, and only where there is none: another run may be starting too


def keep_token_private() -> None:
    """Take the reading of a token that Ray wrote from everyone but its owner."""
    path = token_path()
    if path.exists() and path.stat().st_mode & 0o077:
        with contextlib.suppress(PermissionError):  # another user's, who shares it
            path.chmod(0o600)


def open_to_others(dashboard: str | None) -> str:
    """What to say of a cluster whose dashboard, and so its job server, other machines reach without a token.

    Args:
        dashboard: its host and port, or URL; None or "" without one.
    """
    if not dashboard or is_loopback(dashboard):
        return ""
    # Asked, for this process cannot know.
    if not is_open(dashboard if "://" in dashboard else f"http://{dashboard}"):
        return ""
    return (
        f"Ray's dashboard at {dashboard} is open to other machines and asks for no token: whoever reaches it can run "
        "any code as you. Start the cluster with RAY_AUTH_MODE=token (ray get-auth-token --generate), or with "
        "--dashboard-host 127.0.0.1 behind a firewall."
    )


def is_loopback(address: str) -> bool:
    """Whether a host, "host:port" or URL means this machine alone."""
    host = address.split("://")[-1].split("/")[0].split("@")[-1]
    if host.startswith("["):
        host = host[1 : host.index("]")]
    elif host.count(":") == 1:
        host = host.partition(":")[0]
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
