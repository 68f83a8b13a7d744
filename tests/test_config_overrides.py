"""Settings over settings: what a block keeps of the one that it changes, and settings that nothing would read."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from rayflow.config import load_config, override
from tests.test_config import MINIMAL


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "run.yaml"
    path.write_text(yaml.safe_dump(MINIMAL))
    return path


def test_a_block_of_an_override_changes_only_what_it_names(file: Path) -> None:
    """As a block of a file does: the rest of it is not back at its defaults."""
    own = {"loss": {"kind": "hinge_norm", "gamma": 0.2}, "batch_size": 4, "zero_stage": 3}
    file.write_text(yaml.safe_dump({**MINIMAL, "train": own, "select": {"num_accepted": 4}}))
    config = load_config(file)
    train = override(config, {"train": {"learning_rate": 1e-7}, "select": {"beta": 0.25}}).train
    assert train == config.train.model_copy(update={"learning_rate": 1e-7})
    assert override(config, {"train.loss": {"gamma": 0.4}}).train.loss.kind == "hinge_norm"
    changed = override(config, {"select": {"beta": 0.25}, "train": {"loss": {"gamma": 0.4}}})
    assert (changed.select.num_accepted, changed.select.beta) == (4, 0.25)
    assert (changed.train.loss.kind, changed.train.loss.gamma, changed.train.batch_size) == (
        "hinge_norm",
        0.4,
        4,
    )


def test_a_block_of_an_override_that_names_its_kind_takes_nothing_over(file: Path) -> None:
    file.write_text(yaml.safe_dump({**MINIMAL, "select": {"num_accepted": 4, "beta": 0.25}}))
    again = override(load_config(file), {"select": {"kind": "rejection", "beta": 0.5}, "pair": "tournament"})
    assert again.select.num_accepted == 8
    assert again.pair.kind == "tournament"


def test_a_block_given_with_set_is_the_whole_block(file: Path) -> None:
    """One value for one path: with `policy={responses: ..}` the model of before must be gone."""
    assert load_config(file, ["train.batch_size=4", "train={num_epochs: 2}"]).train.batch_size == 32
