"""A runner that finds no cluster says so."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

WAITS = ("gcs_rpc_server_connect_timeout_s", "gcs_rpc_server_reconnect_timeout_s", "py_gcs_connect_timeout_s")
IMPATIENT = {f"RAY_{name}": "1" for name in (*WAITS, "gcs_server_request_timeout_seconds", "NUM_REDIS_GET_RETRIES")}
"""Ray tries for minutes otherwise."""

CODE = """
import sys
from pathlib import Path
from rayflow.config.blocks import ComputeOptions
from rayflow.dist.runner import RayRunner
from rayflow.errors import StageError
try:
    RayRunner(ComputeOptions(address=sys.argv[1]), Path(sys.argv[2])).start([])
except StageError as error:
    print(error)
"""


def test_no_cluster_at_the_address_is_a_sentence(tmp_path: Path) -> None:
    """In a process of its own, for this one may have a Ray already."""
    command = [sys.executable, "-c", CODE, "127.0.0.1:9", str(tmp_path / "logs")]
    environment = {**os.environ, **IMPATIENT}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120, check=True)
    assert done.stdout.startswith("No Ray cluster answers at '127.0.0.1:9': ")
