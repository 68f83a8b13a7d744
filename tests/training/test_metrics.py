"""Following a metrics file while it grows, is cut short or is replaced."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from rayflow.training import metrics
from rayflow.training.metrics import MetricsLog, MetricsTail


def line(step: int) -> dict[str, float]:
    return {"step": step, "loss": 1 / step}


def test_a_line_is_read_once_and_only_when_it_is_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "metrics.jsonl"
    tail, parsed, loads = MetricsTail(path), [], json.loads
    monkeypatch.setattr(metrics.json, "loads", lambda text: parsed.append(text) or loads(text))
    assert tail.read() == []  # there is no file yet
    log = MetricsLog(path, 0)
    for step in range(1, 6):
        log.append(line(step))
        assert tail.read() == [line(step)] and tail.read() == []
    with path.open("a") as file:
        file.write('{"step": 6, ')
        file.flush()
        assert tail.read() == []
        file.write('"loss": 0.5}\n')
    assert tail.read() == [{"step": 6, "loss": 0.5}]
    assert len(parsed) == 6


def test_a_file_that_a_restart_replaced_is_read_from_its_beginning(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    log, tail = MetricsLog(path, 0), MetricsTail(path)
    for step in range(1, 6):
        log.append(line(step))
    assert len(tail.read()) == 5
    again = MetricsLog(path, 3)
    for step in range(4, 9):  # longer than the old one before anyone looks
        again.append(line(step))
    assert [found["step"] for found in tail.read()] == [1, 2, 3, 4, 5, 6, 7, 8]
    path.write_text(json.dumps(line(1)) + "\n")  # the same file, cut short
    assert tail.read() == [line(1)]
