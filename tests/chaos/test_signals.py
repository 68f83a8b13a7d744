"""Ctrl-C and SIGTERM: the run says what becomes of the work, leaves nothing running, and can be gone on with."""

from __future__ import annotations

import os
import shutil
import signal
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.chaos.job import Job, digests, settings
from tests.chaos.test_chaos import (  # noqa: F401
    trained,
    training_settings,
    undisturbed,
    undisturbed_training,
)
from tests.chaos.trial import steps


@pytest.fixture
def home() -> Iterator[Path]:
    folder = Path(tempfile.mkdtemp(prefix="rf-", dir="/tmp"))
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


@pytest.mark.parametrize(
    ("number", "runner"),
    [
        (signal.SIGINT, "local"),
        pytest.param(signal.SIGTERM, "ray", marks=pytest.mark.slow),
        pytest.param(signal.SIGTERM, "local", marks=pytest.mark.chaos),
        pytest.param(signal.SIGINT, "ray", marks=pytest.mark.chaos),
    ],
)
def test_a_run_that_is_told_to_stop_ends_in_order(
    runner: str,
    number: signal.Signals,
    tmp_path: Path,
    home: Path,
    undisturbed: dict[str, str],  # noqa: F811
) -> None:
    given = settings(tmp_path, "stopped")
    given["compute"]["runner"] = runner
    job = Job.of(given, home, whole=True)
    try:
        process = job.start()
        until = time.monotonic() + 120
        while job.done("sample") < 4:
            assert process.poll() is None and time.monotonic() < until, job.output.read_text()
            time.sleep(0.02)
        # A terminal sends Ctrl-C to the whole group of processes, a supervisor SIGTERM to the one it knows.
        (os.killpg if number == signal.SIGINT else os.kill)(process.pid, number)
        assert process.wait(60) == 128 + number, job.output.read_text()
        said = job.output.read_text()
        assert "Stopped. What was finished is kept; run the same command to go on." in said
        assert "Traceback" not in said
        until = time.monotonic() + 20
        while left := job.processes():
            assert time.monotonic() < until, [p.cmdline() for p in left]
            time.sleep(0.1)
        done = job.done("sample")
        assert 4 <= done < 16
        for index in job.artifact("sample").shards.committed():
            assert job.artifact("sample").shards.damage(index) == ""
        assert Job.of(given, home).start().wait(120) == 0
        assert digests(job.config.root) == undisturbed
    finally:
        job.end()


@pytest.mark.chaos
@pytest.mark.trainer
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_training_that_is_told_to_stop_ends_in_order(
    number: signal.Signals,
    tmp_path: Path,
    home: Path,
    tiny_model: str,
    undisturbed_training: tuple,  # noqa: F811
) -> None:
    """Ray Train answers Ctrl-C with an exit code of success: a night's job must not take that for an end."""
    job = Job.of(training_settings(tmp_path, "stopped", tiny_model), home, whole=True)
    try:
        process = job.start()
        until = time.monotonic() + 240
        while steps(job) < 5:
            assert process.poll() is None and time.monotonic() < until, job.output.read_text()
            time.sleep(0.02)
        os.kill(process.pid, number)
        assert process.wait(90) == 128 + number, job.output.read_text()
        said = job.output.read_text()
        assert "Stopped. What was finished is kept" in said and "Traceback" not in said
        assert job.start().wait(240) == 0, job.output.read_text()
        assert trained(job.config.root) == undisturbed_training
    finally:
        job.end()


@pytest.mark.chaos
@pytest.mark.trainer
def test_where_every_checkpoint_is_damaged_training_begins_anew_and_says_so(
    tmp_path: Path,
    home: Path,
    tiny_model: str,
    undisturbed_training: tuple,  # noqa: F811
) -> None:
    job = Job.of(training_settings(tmp_path, "damaged", tiny_model), home, whole=True)
    try:
        process = job.start()
        until = time.monotonic() + 240
        while steps(job) < 8:
            assert process.poll() is None and time.monotonic() < until, job.output.read_text()
            time.sleep(0.02)
        process.kill()
        process.wait()
        job.end()
        (folder,) = job.config.root.glob("*-train")
        files = sorted((folder / "checkpoints").rglob("*.pt"))
        assert files
        for path in files:
            content = bytearray(path.read_bytes())
            content[len(content) // 2] ^= 1
            path.write_bytes(content)
        assert job.start().wait(240) == 0, job.output.read_text()
        assert trained(job.config.root) == undisturbed_training
        logs = "".join(path.read_text() for path in (folder / "logs").glob("*.log"))
        assert "going on from an earlier one" in logs
    finally:
        job.end()
