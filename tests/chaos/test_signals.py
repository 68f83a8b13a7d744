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
from tests.chaos.test_chaos import undisturbed  # noqa: F401


@pytest.fixture
def home() -> Iterator[Path]:
    folder = Path(tempfile.mkdtemp(prefix="rf-", dir="/tmp"))
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


@pytest.mark.parametrize("runner", ["local", "ray"])
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
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
        for index in job.artifact("sample").committed_shards():
            assert job.artifact("sample").damage(index) == ""
        assert Job.of(given, home).start().wait(120) == 0
        assert digests(job.config.root) == undisturbed
    finally:
        job.end()
