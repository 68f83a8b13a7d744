"""Runs that cannot make a pair: refused before sampling where it is known, stopped behind the pairs where it shows."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console
from typer.main import get_command

from rayflow.cli.app import app
from rayflow.errors import ArtifactError, ConfigError, StageError
from rayflow.pipeline import commands
from rayflow.pipeline.export import write_trl
from rayflow.pipeline.method import check_method
from tests.pipeline.helpers import run_data, with_settings

EVEN = {"kind": "rule", "function": "tests.pipeline.conftest:even"}


@pytest.mark.parametrize(
    ("select", "num_candidates", "said"),
    [
        ({"num_accepted": 1}, 16, "with select.num_accepted=1 no prompt"),
        ({"num_accepted": 1}, 1, "with sample.num_candidates=1 no prompt"),
        ({"kind": "all"}, 1, "with sample.num_candidates=1 no prompt"),
        (
            {"kind": "knockout"},
            16,
            "with select.num_accepted=1 .select.kind 'knockout' accepts one. no prompt",
        ),
        ({"num_accepted": 2}, 2, None),
        ({"kind": "all"}, 2, None),
        ({"num_accepted": 2, "shortfall": "resample"}, 1, None),
    ],
)
def test_a_single_response_makes_no_pair(
    settings: dict, select: dict[str, Any], num_candidates: int, said: str | None
) -> None:
    changes = {"select": select, "sample": {**settings["sample"], "num_candidates": num_candidates}}
    config = with_settings(settings, **changes)
    check_method(with_settings(settings, **changes, train={"loss": "cross_entropy"}))
    if said is None:
        check_method(config)
        return
    with pytest.raises(ConfigError, match=f"Loss 'sigmoid_norm' trains on pairs, and {said}"):
        check_method(config)


def test_a_run_whose_responses_are_all_tied_stops_behind_its_pairs(settings: dict, tiny_model: str) -> None:
    config = with_settings(settings, reward=EVEN, model=tiny_model)
    for _ in range(2):  # going on with it says the same
        with pytest.raises(StageError, match="no preference pair to train on: .* Nothing after .*05-pair"):
            commands.run(config, Console(quiet=True))
    assert (config.root / "05-pair" / "manifest.json").exists()
    assert not (config.root / "06-reference").exists()
    commands.run(config, Console(quiet=True), until="select")  # for who wants to look at what there is


@pytest.mark.parametrize("suffix", ["jsonl", "parquet"])
def test_no_pairs_are_not_exported(settings: dict, tmp_path: Path, suffix: str) -> None:
    pair = {"kind": "first_round"}
    config = with_settings(settings, reward=EVEN, pair=pair, train={"loss": "cross_entropy"})
    plan, _ = run_data(config)  # whose loss learns from no pairs
    path = tmp_path / f"pairs.{suffix}"
    with pytest.raises(
        ArtifactError, match="There is no pair to write: every prompt of .*05-pair has none"
    ) as told:
        write_trl(plan.artifacts, path)
    assert not path.exists()
    assert set(re.findall("`rayflow ([a-z-]+)", str(told.value))) == {"report", "select"}
    assert set(re.findall("rayflow ([a-z-]+)", str(told.value))) <= set(get_command(app).commands)
