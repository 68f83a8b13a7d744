"""The study that the repository holds: whole, and its page and tables are what its numbers say."""

from __future__ import annotations

from pathlib import Path

import pytest

from rayflow.config import load_config
from rayflow.config.study import StudyConfig
from rayflow.study.found import Found, restored
from rayflow.study.page import PROXY_RANGE, write

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "jobs" / "studies" / "sentiment"


@pytest.fixture(scope="module")
def found() -> Found:
    return restored(FOLDER / "study.json", [])


def test_every_row_is_measured_with_every_seed(found):
    measured = {(result.row, result.seed) for result in found.results}
    assert measured == {(row, seed) for row in found.config.all_rows for seed in found.config.seeds}
    assert len(found.config.seeds) >= 3
    low, high = PROXY_RANGE
    assert low <= found.proxy["accuracy"] <= high
    assert set(found.pairs) >= {"rso-sigmoid_norm", "sft-sigmoid_norm", "direct-sigmoid_norm"}


def test_its_configuration_is_the_shipped_one(found, monkeypatch):
    monkeypatch.chdir(ROOT)
    shipped = load_config(ROOT / "jobs" / "configs" / "study" / "sentiment.yaml", [], StudyConfig)
    elsewhere = {"runs_dir", "notes", "model"}  # the model's folder is that of the machine
    assert found.config.model_dump(exclude=elsewhere) == shipped.model_dump(exclude=elsewhere)
    assert Path(found.config.model).name == Path(shipped.model).name


def test_page_and_tables_are_made_from_its_numbers(found, tmp_path):
    write(found, tmp_path)
    for name in ("study.json", "tables.md", "study.html"):
        assert (tmp_path / name).read_text(encoding="utf-8") == (FOLDER / name).read_text(encoding="utf-8"), (
            name
        )
