"""What `rayflow verify` counts, and that a model which is gone does not pass."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest
from typer.testing import CliRunner

from rayflow.cli.app import app
from rayflow.config import RunConfig
from rayflow.core.model_folder import CHECKSUMS, damaged_files
from rayflow.pipeline.execute import open_run
from rayflow.pipeline.run_plan import build_run_plan
from rayflow.training.checkpoints import write_checksums
from tests.pipeline.helpers import run_data


@pytest.fixture
def trained(config: RunConfig) -> Path:
    """A run's folder up to the pairs, with a training that is stored as finished."""
    run_data(config)
    train = build_run_plan(config).artifacts["train"]
    train.begin({"train": {}}, num_shards=0)
    model = train.folder / "model"
    model.mkdir()
    (model / "config.json").write_text("{}")
    write_checksums(model)
    train.commit(0.0, 1.0)
    return config.root


def verify(*arguments: object) -> tuple[int, str]:
    result = CliRunner().invoke(
        app, ["verify", *map(str, arguments)], catch_exceptions=False, env={"COLUMNS": "200"}
    )
    return result.exit_code, result.output


def test_what_was_looked_at_is_counted_with_its_unit(trained: Path) -> None:
    code, told = verify(trained)
    assert code == 0 and told.endswith("15 shards and 1 model checked, all whole.\n")
    assert "sample               3 shards\n" in told and "train                1 model\n" in told


def test_a_model_or_its_checksums_that_are_gone_are_found_and_taken_back(trained: Path) -> None:
    model = trained / "07-train" / "model"
    (model / CHECKSUMS).unlink()
    code, told = verify(trained)
    assert code == 1 and f"{model / CHECKSUMS} is missing, so nothing tells" in told
    shutil.rmtree(model)
    code, told = verify(trained)
    assert code == 1 and f"{model} is missing." in told and "1 damaged or missing." in told
    code, told = verify(trained, "--repair")
    assert code == 0 and "taken back: train, the model" in told
    assert not (trained / "07-train" / "manifest.json").exists()


def test_a_bit_of_a_model_that_flipped_is_found(trained: Path) -> None:
    model = trained / "07-train" / "model"
    assert damaged_files(model) == []  # as what looks at a model before it is loaded remembers it
    config = model / "config.json"
    stat = config.stat()
    config.write_text("{]")
    os.utime(config, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    code, told = verify(trained)
    assert code == 1 and f"{config} is not what was trained." in told


def test_a_training_without_a_readable_manifest_is_gone_on_with(trained: Path) -> None:
    (trained / "07-train" / "manifest.json").write_text("{")
    code, told = verify(trained, "--repair")
    assert code == 0 and "taken back: train, the model" in told
    assert not (trained / "07-train" / "manifest.json").exists()


def test_a_study_may_remove_the_model_of_a_row_that_it_has_measured(trained: Path) -> None:
    shutil.rmtree(trained / "07-train" / "model")
    trained.with_name(f"{trained.name}.json").write_text("{}")
    code, told = verify(trained)
    assert code == 0 and told.endswith("15 shards checked, all whole.\n")


def test_a_run_in_which_nothing_is_stored_is_not_called_whole(config: RunConfig) -> None:
    with open_run(config):
        (config.root / "config.yaml").write_text(config.to_yaml())
    code, told = verify(config.root)
    assert code == 0 and told == f"Nothing is stored yet in {config.root}.\n"
