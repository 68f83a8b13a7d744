"""One side of a benchmark in a process of its own."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any


def in_fresh_process(side: str, *more: str) -> dict[str, Any]:
    """The result of this very command with `--side`; what engines print around it is left out."""
    command = [sys.executable, "-m", "tests.benchmarks", *sys.argv[1:], *more, "--side", side]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    lines = [line for line in done.stdout.splitlines() if line.startswith('{"benchmark"')]
    if done.returncode or len(lines) != 1:
        raise SystemExit(f"{' '.join(command)} failed with status {done.returncode}:\n{done.stderr[-2000:]}")
    return json.loads(lines[0])
