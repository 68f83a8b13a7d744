"""A configuration as a job would read it, before the job."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from typer.testing import CliRunner

from rayflow.cli.app import app
from rayflow.config import RunConfig, load_config, schema_of
from rayflow.errors import ArtifactError, ConfigError

ROOT = Path(__file__).parents[2]
CONFIGS = ROOT / "jobs" / "configs"
KINDS = (
    "quickstart.yaml",
    "refresh.yaml",
    "evaluate/quickstart.yaml",
    "study/proxy.yaml",
    "methods/rso.yaml",
)


def shown(*arguments: object) -> str:
    result = CliRunner().invoke(app, ["show", *map(str, arguments)], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.stdout


@pytest.mark.parametrize("name", KINDS)
def test_every_kind_is_shown_whole_and_can_be_read_again(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(ROOT)
    path = CONFIGS / name
    text = shown(path, "--set", "seed=77")
    assert yaml.safe_load(text) == load_config(path, ["seed=77"], schema_of(path)).model_dump(mode="json")
    (tmp_path / "again.yaml").write_text(text)
    assert shown(tmp_path / "again.yaml") == text


def test_the_folder_of_a_job_shows_what_it_was_made_from(tmp_path: Path) -> None:
    folder = tmp_path / "runs" / "moved"
    folder.mkdir(parents=True)
    (folder / "config.yaml").write_text(load_config(CONFIGS / "quickstart.yaml").to_yaml())
    told = RunConfig.model_validate(yaml.safe_load(shown(folder, "--set", "select.beta=0.3")))
    assert (told.name, told.runs_dir, told.select.beta) == ("moved", str(folder.parent), 0.3)
    with pytest.raises(ArtifactError, match="is not a run's folder"):
        shown(tmp_path / "runs" / "moved" / "..", "--set", "seed=1")
    with pytest.raises(ConfigError, match="sed: unknown key"):
        shown(CONFIGS / "quickstart.yaml", "--set", "sed=1")


def test_a_study_is_shown_with_its_parts() -> None:
    text = shown(CONFIGS / "study" / "sentiment.yaml", "--set", "run.train.num_epochs=7")
    study, *parts = yaml.safe_load_all(text)
    assert len(study["rows"]) > 5 and [part["name"] for part in parts] == [
        *("preferences", "proxy", "shared", "evaluation")
    ]
    assert parts[2]["train"]["num_epochs"] == 7 and "# parts.run" in text
