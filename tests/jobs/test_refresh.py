"""The shipped refresh and its entry point, on the fake engine."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from rayflow.refresh.folder import RefreshFolder

ROOT = Path(__file__).parents[2]


def test_the_shipped_configuration_refreshes_on_the_fake_engine(tmp_path: Path) -> None:
    settings = {
        "runs_dir": tmp_path,
        "model": "fake",
        "sample.engine": "{kind: fake}",
        "reward.function": "tests.pipeline.conftest:cheerful",
        "compute.runner": "local",
    }
    command = [sys.executable, "jobs/refresh.py", "jobs/configs/refresh.yaml", "--date", "2026-11-20"]
    command += [part for key, value in settings.items() for part in ("--set", f"{key}={value}")]
    for _ in range(2):
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
    assert "Done before" in done.stdout
    folder = RefreshFolder.open(tmp_path / "preferences")
    record = folder.record(folder.latest)
    assert record.passed and record.measures["whole"]["rows"] == 64
