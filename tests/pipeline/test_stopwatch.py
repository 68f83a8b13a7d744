"""Seconds over several calls: kept while a call runs, so that a killed one counts up to its last sign of life."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from rayflow.config import RunConfig
from rayflow.core.files import read_json
from rayflow.pipeline.progress import StageCount
from rayflow.pipeline.stopwatch import stopwatch
from tests.pipeline.helpers import data_plan, run_data


def test_a_killed_call_counts_up_to_its_last_sign_of_life(tmp_path: Path) -> None:
    path, left = tmp_path / "seconds.json", b""
    with stopwatch(path, beat_s=0.01):
        until = time.monotonic() + 20
        while not path.exists() and time.monotonic() < until:
            time.sleep(0.01)
        left = path.read_bytes()  # all that a kill at this moment leaves
    path.write_bytes(left)
    before = read_json(path)["seconds"]
    with stopwatch(path) as spent:
        time.sleep(0.05)
        assert spent() >= before + 0.05 > 0.05
    assert read_json(path)["seconds"] >= before + 0.05
    assert [each.name for each in tmp_path.iterdir()] == ["seconds.json"]


def test_a_call_that_fails_counts_whole_and_an_absent_folder_is_no_error(tmp_path: Path) -> None:
    path = tmp_path / "stage" / "seconds.json"
    with stopwatch(path):
        pass
    assert not path.parent.exists()
    with pytest.raises(KeyboardInterrupt), stopwatch(path):
        path.parent.mkdir()
        time.sleep(0.05)
        raise KeyboardInterrupt
    assert read_json(path)["seconds"] >= 0.05
    path.write_text("[]")
    with stopwatch(path) as spent:
        assert spent() < 10


def test_a_stage_in_one_piece_says_what_all_calls_took(
    config: RunConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    def killed(count: StageCount, limit: float) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(StageCount, "check", killed)
        run_data(config)
    prompts = data_plan(config).artifacts["prompts"]
    path = prompts.folder / "seconds.json"
    assert not prompts.committed and 0 < read_json(path)["seconds"] < 100
    path.write_text('{"seconds": 1000.0}')
    plan, _ = run_data(config)
    assert 1000 < plan.artifacts["prompts"].manifest().seconds < 1100
    assert plan.artifacts["sample"].manifest().seconds < 100
