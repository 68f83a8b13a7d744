"""The shipped refresh and its entry point, on the fake engine."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from typer.testing import CliRunner

from rayflow.cli.app import app
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
    assert record.passed and record.measures["whole"]["rows"] >= 90


def test_the_commands_of_the_readme_have_these_options() -> None:
    (block,) = [text for text in (ROOT / "README.md").read_text().split("```") if "rayflow table" in text]
    used: dict[str, set[str]] = {}
    for line in block.splitlines()[1:]:
        _, command, *words = line.split("#")[0].split() or ["", ""]
        used.setdefault(command, set()).update(word for word in words if word.startswith("--"))
    assert set(used) >= {"refresh", "table"}
    for command in ("refresh", "table"):
        found = CliRunner().invoke(app, [command, "--help"], env={"COLUMNS": "200"})
        assert all(option in found.output for option in used[command])
