"""Whether a job server can be reached by more people than it should: it runs whatever it is sent."""

from __future__ import annotations

import contextlib
import ipaddress
import socket
from urllib.parse import urlsplit

_TIMEOUT_S = 3.0


def warnings_for(url: str) -> list[str]:
    """What to tell a person about the job server at `url`, in sentences; nothing if all is well."""
    parts = urlsplit(url)
    host, port = parts.hostname or "", parts.port or (443 if parts.scheme == "https" else 80)
    beyond = not is_loopback(host) or listens_beyond_loopback(port)
    found = []
    if beyond and is_open(url):
        found.append(
            f"The job server at {url} takes jobs from everyone who can reach it, without a token, and can be reached "
            "beyond this machine. Start the cluster with RAY_AUTH_MODE=token (`ray get-auth-token --generate`), and "
            "`ray start` with --dashboard-host=127.0.0.1."
        )
    if parts.scheme == "http" and not is_loopback(host) and not is_open(url):
        found.append(
            f"The token travels to {host} unencrypted. Use https, or forward the port (ssh -L, kubectl port-forward)."
        )
    return found


def is_loopback(host: str) -> bool:
    """Whether a host name can only mean this machine."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def is_open(url: str) -> bool:
    """Whether the server lists jobs to somebody without a token."""
    import requests

    try:
        # an empty Authorization: requests would otherwise send what ~/.netrc holds for the host
        answer = requests.get(f"{url}/api/jobs/", timeout=_TIMEOUT_S, auth=lambda request: request)
    except requests.RequestException:
        return False
    return answer.status_code == 200


def listens_beyond_loopback(port: int) -> bool:
    """Whether this machine's own address in the network takes connections at a port of it.

    A port that is only forwarded to this machine does not.
    """
    for address in _own_addresses():
        with contextlib.suppress(OSError), socket.create_connection((address, port), timeout=_TIMEOUT_S):
            return True
    return False


def _own_addresses() -> set[str]:
    """Addresses of this machine that are not loopback."""
    found: set[str] = set()
    with contextlib.suppress(OSError), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.connect(("192.0.2.1", 9))  # sends nothing: it only asks which address would be used
        found.add(probe.getsockname()[0])
    with contextlib.suppress(OSError):
        found.update(info[4][0] for info in socket.getaddrinfo(socket.gethostname(), None, socket.AF_INET))
    return {address for address in found if not is_loopback(address) and address != "0.0.0.0"}
