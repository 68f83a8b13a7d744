"""What a runner says of its cluster: that there is none, or what it has."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from rayflow.config.blocks import ComputeOptions, NodeOptions
from rayflow.dist.runner import RayRunner

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


def test_a_cluster_that_grows_is_counted_as_large_as_it_may_become(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ray.cluster_resources", lambda: {"CPU": 8.0})
    monkeypatch.setattr("ray.nodes", lambda: [{"Alive": True}])
    nodes = (NodeOptions(name="sampler", count=2, num_cpus=64, num_gpus=8),)
    grows = RayRunner(ComputeOptions(address="auto", nodes=nodes), tmp_path)
    assert (grows._have("CPU"), grows._have("GPU"), grows._num_nodes) == (128, 16, 2)
    stays = RayRunner(ComputeOptions(address="auto"), tmp_path)
    assert (stays._have("CPU"), stays._have("GPU"), stays._num_nodes) == (8, 0, 1)
