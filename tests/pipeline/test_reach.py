"""Models that a cluster may not have: refused where they cannot mean the same there, else told of."""

from __future__ import annotations

from pathlib import Path

from rayflow.config import RunConfig
from rayflow.pipeline.named import walk
from rayflow.pipeline.package import pack
from rayflow.pipeline.reach import doubts, laptop_models


def told(settings: dict, *shared: str, **changes: object) -> dict[str, list[str]]:
    return laptop_models(walk(RunConfig.model_validate({**settings, **changes})), shared)


def test_a_model_of_this_machine_is_told_with_every_setting_that_names_it(
    settings: dict, tmp_path: Path
) -> None:
    here = tmp_path / "models" / "mine"
    here.mkdir(parents=True)
    assert told(settings, model="~/models/a", sample={**settings["sample"], "model": "~/models/a"}) == {
        "~/models/a": ["model", "sample.model"]
    }
    assert told(settings, model=str(here)) == {str(here): ["model"]}
    for model in ("org/name", "/only/on/the/cluster"):
        assert told(settings, model=model) == {}
    assert told(settings, str(tmp_path / "models"), model=str(here)) == {}
    assert told(settings, "~/models", model="~/models/a") == {}


def test_the_sentences_say_what_to_set(settings: dict, tmp_path: Path) -> None:
    found = walk(RunConfig.model_validate({**settings, "model": "~/models/a"}))
    model, runner = doubts(found, (), "local")
    assert "model: '~/models/a' is a path of this machine" in model and "--set model=ORG/NAME" in model
    assert "one process on the cluster's head" in runner and "--set compute.runner=ray" in runner
    assert doubts((), (), "ray") == doubts((), (), None) == []


def test_a_package_holds_them_and_a_model_among_the_runs_is_none(settings: dict, tmp_path: Path) -> None:
    among = tmp_path / "runs" / "first" / "07-train" / "model"
    among.mkdir(parents=True)
    for name, model, number in (("a", "~/models/a", 2), ("b", str(among), 1)):
        (tmp_path / name).mkdir()
        made = pack(RunConfig.model_validate({**settings, "model": model}), tmp_path / name)
        assert len(made.doubts) == number and "compute.runner is local" in made.doubts[-1]
