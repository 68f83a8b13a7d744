"""The study that the repository holds: whole, and its page and tables are what its numbers say."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

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
    assert found.config.model_dump(exclude={"runs_dir"}) == shipped.model_dump(exclude={"runs_dir"})


def test_its_readme_says_what_the_tables_say(found):
    """Its win rates with their intervals, and how many of the pairs the gold reward agrees with."""
    lines = re.findall(
        r"^\| .+ \| (\d.*)% (\[.+\]) \| (\d+)% of ([\d,]+) \|$", (FOLDER / "README.md").read_text(), re.M
    )
    assert len(lines) == 4
    rows = [
        line.split(" | ") for line in (FOLDER / "tables.md").read_text().splitlines() if line.startswith("| ")
    ]
    known = {(cells[2], cells[9].strip(" |"), cells[8]) for cells in rows if len(cells) > 9}
    for rate, interval, share, count in lines:
        assert (f"{rate}% {interval}", f"{share}%", count) in known


def test_page_and_tables_are_made_from_its_numbers(found, tmp_path):
    write(found, tmp_path)
    for name in ("tables.md", "study.html"):
        assert (tmp_path / name).read_text(encoding="utf-8") == (FOLDER / name).read_text(encoding="utf-8"), (
            name
        )
    assert json.loads((tmp_path / "study.json").read_text()) == nearly(
        json.loads((FOLDER / "study.json").read_text())
    )


def nearly(value: Any) -> Any:
    """A JSON document that equals others up to the last digits of its numbers: processors add up in other orders."""
    if isinstance(value, dict):
        return {key: nearly(each) for key, each in value.items()}
    if isinstance(value, list):
        return [nearly(each) for each in value]
    return pytest.approx(value, rel=1e-12) if isinstance(value, float) else value
