"""A real Ray head with its job server, in a process group, folder and ports of its own."""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import psutil
import requests

ROOT = Path(__file__).parents[2]


@dataclass(frozen=True)
class Head:
    """A running head.

    Attributes:
        url: of its job server.
        metrics: of its Prometheus endpoint.
        folder: its temporary folder, with all its logs.
        env: environment of a client: home, and the token if there is one.
    """

    url: str
    metrics: str
    folder: Path
    env: dict[str, str]

    def rayflow(self, *arguments: object, **env: str) -> subprocess.CompletedProcess:
        """Run a command of rayflow as a person would, in a process of its own."""
        command = [sys.executable, "-m", "rayflow", *map(str, arguments), "--address", self.url]
        return subprocess.run(command, capture_output=True, text=True, env={**self.env, **env}, timeout=240)


def _free_ports(number: int) -> list[int]:
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(number)]
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]


@contextlib.contextmanager
def ray_head(token: str | None, num_cpus: int = 3) -> Iterator[Head]:
    """Start a head, with token authentication or without, and end it with everything that it started."""
    folder = Path(
        tempfile.mkdtemp(prefix="rf-", dir="/tmp")
    )  # short: a socket's path has 107 characters at most
    home = folder / "home"
    home.mkdir()
    dropped = ("RAY_", "RAYFLOW_")
    env = {key: value for key, value in os.environ.items() if not key.startswith(dropped)}
    env |= {"HOME": str(home), "PYTHONPATH": str(ROOT), "RAY_USAGE_STATS_ENABLED": "0"}
    env |= {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": token} if token else {"RAY_AUTH_MODE": "disabled"}
    gcs, dashboard, client, agent, grpc, metrics = _free_ports(6)
    options = {
        "port": gcs,
        "dashboard-port": dashboard,
        "ray-client-server-port": client,
        "dashboard-agent-listen-port": agent,
        "dashboard-agent-grpc-port": grpc,
        "metrics-export-port": metrics,
        "dashboard-host": "127.0.0.1",
        "node-ip-address": "127.0.0.1",
        "num-cpus": num_cpus,
        "object-store-memory": 100_000_000,
        "temp-dir": folder / "ray",
    }
    command = [
        str(Path(sys.executable).parent / "ray"),
        "start",
        "--head",
        "--block",
        "--include-dashboard=true",
    ]
    command += [f"--{key}={value}" for key, value in options.items()]
    # The cluster must run what is sent to it, not what this machine's repository holds.
    served = {key: value for key, value in env.items() if key != "PYTHONPATH"} | {
        "RAY_metrics_report_interval_ms": "500"
    }
    with open(folder / "head.log", "w") as log:
        process = subprocess.Popen(command, env=served, stdout=log, stderr=log, start_new_session=True)
    head = Head(f"http://127.0.0.1:{dashboard}", f"http://127.0.0.1:{metrics}/metrics", folder, env)
    try:
        _wait(head, token, process)
        yield head
    finally:
        _end(process, folder)


def _wait(head: Head, token: str | None, process: subprocess.Popen) -> None:
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline and process.poll() is None:
        with contextlib.suppress(requests.RequestException):
            if requests.get(f"{head.url}/api/jobs/", headers=headers, timeout=5).status_code == 200:
                return
        time.sleep(0.5)
    raise RuntimeError(f"Ray did not start: {(head.folder / 'head.log').read_text()[-2000:]}")


def _end(process: subprocess.Popen, folder: Path) -> None:
    """Only what this head started: its children, and what carries its folder in its command line."""
    family = {process.pid: psutil.Process(process.pid)} if process.poll() is None else {}
    for each in list(family.values()):
        family |= {child.pid: child for child in each.children(recursive=True)}
    for each in psutil.process_iter(["cmdline"]):
        if any(str(folder) in word for word in each.info["cmdline"] or ()):
            family[each.pid] = each
    for each in family.values():
        with contextlib.suppress(psutil.NoSuchProcess):
            each.kill()
    process.wait(timeout=30)
    shutil.rmtree(folder, ignore_errors=True)
