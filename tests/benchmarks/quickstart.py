"""The quickstart, whole: wall time, peak memory of all its processes together, and the win rate it reports."""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import psutil


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What to run."""
    parser.add_argument("--config", default="jobs/configs/quickstart.yaml")
    parser.add_argument("--set", action="append", default=[], metavar="a.b=value")


def run(arguments: argparse.Namespace) -> dict[str, Any]:
    """Run it in a fresh folder, watching the memory of its process tree."""
    with tempfile.TemporaryDirectory() as scratch:
        settings = [f"runs_dir={scratch}", "name=benchmark", *arguments.set]
        options = [part for setting in settings for part in ("--set", setting)]
        command = [str(Path(sys.executable).with_name("rayflow")), "run", arguments.config, *options]
        begin = time.monotonic()
        process = subprocess.Popen(command, stdout=sys.stderr)
        peak = watch(process)
        seconds = time.monotonic() - begin
        if process.returncode:
            raise SystemExit(f"the quickstart failed with exit code {process.returncode}")
        summary = json.loads(Path(scratch, "benchmark", "summary.json").read_text())
    return {
        "seconds": round(seconds, 1),
        "peak_memory_gib": round(peak / 2**30, 2),
        "evaluation": summary["evaluation"],
    }


def watch(process: subprocess.Popen[bytes]) -> int:
    """Highest proportional set size, in bytes, of everything the process started, Ray's daemons included."""
    before = {p.pid for p in psutil.process_iter()}
    peak = 0
    while process.poll() is None:
        total = 0
        for found in psutil.process_iter():
            if found.pid in before and found.pid != process.pid:
                continue
            try:
                total += found.memory_full_info().pss
            except (psutil.NoSuchProcess, psutil.AccessDenied):
                continue
        peak = max(peak, total)
        time.sleep(3)  # reading the map of every process is not free
    return peak
