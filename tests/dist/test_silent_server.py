"""A job server that takes a connection and never answers, as behind a tunnel whose other end is gone."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator

import pytest

from rayflow.dist import jobs
from rayflow.errors import JobError


@pytest.fixture
def silent() -> Iterator[str]:
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield f"http://127.0.0.1:{server.getsockname()[1]}"


def test_a_server_that_never_answers_is_not_waited_for_without_an_end(
    silent: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(jobs, "_ANSWER_S", 0.3)
    begin = time.monotonic()
    with pytest.raises(JobError, match=f"No job server answers at {silent}"):
        jobs.JobServer(silent)
    assert time.monotonic() - begin < 30
