"""DeepSpeed as a library: its compiled part."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

LOAD = (
    "from rayflow.training.deepspeed_library import compile_collectives; compile_collectives();"
    "import os; from deepspeed.comm.torch import build_shm_op; assert build_shm_op() is not None;"
    "print(os.environ['TORCH_EXTENSIONS_DIR'])"
)


@pytest.mark.trainer
def test_a_build_that_was_killed_does_not_hold_up_the_next_one():
    """PyTorch waits for the file of a build without asking whether anybody is still at it."""

    def load() -> Path:
        done = subprocess.run(
            [sys.executable, "-c", LOAD], capture_output=True, text=True, timeout=300, env=dict(os.environ)
        )
        assert done.returncode == 0, done.stderr
        return Path(done.stdout.splitlines()[-1])

    base = load()  # what the environment says is as it was
    (folder,) = {
        lock.parent for lock in base.glob("rayflow-*/build.lock") if lock.stat().st_mtime >= newest(base)
    }
    left = next(folder.glob("*/*.so")).parent / "lock"
    left.touch()
    load()
    assert not left.exists()


def newest(base: Path) -> float:
    """When the folder that was last built or loaded in was."""
    return max(lock.stat().st_mtime for lock in base.glob("rayflow-*/build.lock"))
