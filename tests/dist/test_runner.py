"""A runner that finds no cluster says so."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

CODE = """
import sys
from pathlib import Path
from rayflow.config.blocks import ComputeOptions
from rayflow.dist import runner
from rayflow.errors import StageError
runner.ANSWER_S = 1
try:
    runner.RayRunner(ComputeOptions(address=sys.argv[1]), Path(sys.argv[2])).start([])
except StageError as error:
    print(error)
"""


def test_no_cluster_at_the_address_is_a_sentence(tmp_path: Path) -> None:
    """In a process of its own, for this one may have a Ray already."""
    command = [sys.executable, "-c", CODE, "127.0.0.1:9", str(tmp_path / "logs")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    assert done.stdout.startswith("No Ray cluster answers at '127.0.0.1:9': ")
    assert "refused" in done.stdout  # from its port, not from Ray, which tries for minutes
