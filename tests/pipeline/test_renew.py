"""Rounds whose earlier rounds were made anew: what follows from them is too, however the call before ended."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from rayflow.config import RunConfig
from rayflow.core.files import read_json
from rayflow.errors import ArtifactError
from rayflow.pipeline import commands


@pytest.fixture
def settings(settings: dict, tiny_model: str) -> dict:
    """Two rounds of the small run of these tests, on a tiny model."""
    return {
        **settings,
        "model": tiny_model,
        "train": {"batch_size": 4, "learning_rate": 1e-3, "precision": "float32"},
        "reference": {"precision": "float32"},
        "rounds": {"num": 2},
    }


def run(settings: dict, *force: str, **rounds: Any) -> tuple[Path, str]:
    config = RunConfig.model_validate({**settings, "rounds": {**settings["rounds"], **rounds}})
    text = io.StringIO()
    commands.run(config, Console(file=text, width=300), force)
    return config.root, text.getvalue()


def made(root: Path) -> dict[str, float]:
    """When each stage of each round was finished."""
    return {
        str(path.parent.relative_to(root)): path.stat().st_mtime_ns
        for path in root.glob("round-*/*/manifest.json")
    }


def anew(root: Path, before: dict[str, float]) -> set[str]:
    """The stages that were finished since, such as "round-2/02-sample"."""
    return {name for name, when in made(root).items() if before.get(name) != when}


@pytest.fixture
def faster(settings: dict) -> dict:
    """The same with another learning rate."""
    return {**settings, "train": {**settings["train"], "learning_rate": 5e-3}}


ROUND_2 = {
    f"round-2/{name}"
    for name in ("02-sample", "03-score", "04-select", "05-pair", "06-reference", "07-train")
}


def test_a_round_whose_policy_was_trained_anew_draws_from_the_new_one(settings: dict, faster: dict) -> None:
    root, _ = run(settings)
    before = made(root)
    _, text = run(faster, "train")
    assert anew(root, before) == {"round-1/07-train", *ROUND_2}
    assert "Made anew, as an earlier round has changed: sample, score" in text
    before = made(root)
    assert run(faster)[1].count("stored") == len(before) and anew(root, before) == set()


def test_a_call_that_was_killed_between_two_rounds_is_gone_on_with(
    settings: dict, faster: dict, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without the stage's name as well as with it."""
    root, _ = run(settings)
    for again in ((), ("train",)):
        before, changed = made(root), faster if not again else settings
        with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
            patch.setattr(commands, "renew", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt()))
            run(changed, "train")
        assert anew(root, before) == {"round-1/07-train"}
        run(changed, *again)
        assert anew(root, before) == {"round-1/07-train", *ROUND_2}


def test_rounds_that_share_samples_share_those_that_were_made_anew(
    settings: dict, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also when the call that made them was killed before the second round."""
    root, _ = run(settings, resample=False)
    again = {**settings, "reward": {"kind": "rule", "function": "tests.refresh.engines:gloomy"}}
    before = made(root)
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(commands, "renew", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt()))
        run(again, "score", resample=False)
    run(again, resample=False)
    assert {name for name in ROUND_2 if name not in anew(root, before)} == {"round-2/02-sample"}
    for stage in ("02-sample", "03-score"):
        first, second = (root / f"round-{i}" / stage / "manifest.json" for i in (1, 2))
        assert first.stat().st_ino == second.stat().st_ino
    before = made(root)
    run(again, "score", resample=False)  # equal settings: nothing but the time of making differs
    first, second = (root / f"round-{i}" / "03-score" / "manifest.json" for i in (1, 2))
    assert first.stat().st_ino == second.stat().st_ino
    assert "round-2/07-train" in anew(root, before)


def test_a_changed_configuration_of_a_later_round_is_still_refused(settings: dict) -> None:
    root, _ = run(settings, reference="original")
    before = made(root)
    with pytest.raises(ArtifactError, match=r"round-2/06-reference was made from another configuration"):
        run(settings, reference="previous")
    assert made(root) == before
    with pytest.raises(ArtifactError, match=r"select\.beta"):
        run(settings, reference="original", overrides=[{}, {"select.beta": 0.9}])
    assert made(root) == before
    assert read_json(root / "summary.json")["name"] == settings["name"]
