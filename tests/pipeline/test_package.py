"""What a submitted job takes along, and how it is put in its place at the other end."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from rayflow.config import RunConfig, load_config, schema_of
from rayflow.config.evaluate import EvaluateConfig
from rayflow.config.reward import RewardConfig
from rayflow.errors import ConfigError, DataError
from rayflow.pipeline import package
from rayflow.pipeline.arrival import REQUIRED, arrive, place
from rayflow.pipeline.package import pack
from rayflow.pipeline.run_plan import build_run_plan
from tests.pipeline.evaluation_helpers import evaluation_settings


@pytest.fixture
def own_code(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A user's reward that imports a module of theirs, a package of theirs, and an installed one."""
    folder = tmp_path / "code"
    (folder / "their_words" / "__pycache__").mkdir(parents=True)
    (folder / "their_words" / "__init__.py").write_text("GOOD = {'good'}\n")
    (folder / "their_words" / "__pycache__" / "x.pyc").write_text("")
    (folder / "their_helper.py").write_text("import json\nfrom their_words import GOOD\n")
    (folder / "their_reward.py").write_text(
        "import numpy\nimport their_helper\n\ndef kind(prompt: str, response: str) -> float:\n"
        "    return float(sum(word in their_helper.GOOD for word in response.split()))\n"
    )
    (folder / "unrelated.py").write_text("")
    monkeypatch.syspath_prepend(folder)
    return folder


@pytest.fixture
def own(settings: dict, own_code: Path) -> RunConfig:
    return RunConfig.model_validate({**settings, "reward": {"kind": "rule", "function": "their_reward:kind"}})


def packed(config: RunConfig, folder: Path, **more):  # noqa: ANN003, ANN201
    folder.mkdir()
    return pack(config, folder, **more)


def test_a_package_holds_code_data_and_plug_ins_with_what_they_import(own: RunConfig, tmp_path: Path) -> None:
    made = packed(own, tmp_path / "out")
    names = {path.name for path in made.folder.iterdir()}
    assert names == {
        *("rayflow", "jobs", "config.yaml", "inputs"),
        *("their_reward.py", "their_helper.py", "their_words"),
    }
    assert made.plugins == ("their_reward", "their_helper", "their_words")
    assert "package numpy" in made.elsewhere and not list(made.folder.rglob("__pycache__"))
    assert (made.folder / "jobs" / "pipeline.py").exists()
    assert made.inputs == (own.prompts.train.path,)


def test_what_arrives_runs_there_with_nothing_but_what_was_sent(own: RunConfig, tmp_path: Path) -> None:
    """In a process that sees neither the repository nor the user's folder."""
    made = packed(own, tmp_path / "out")
    os.remove(own.prompts.train.path)
    env = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"} | {"PYTHONPATH": str(made.folder)}
    code = (
        "import rayflow, io\nfrom rich.console import Console\n"
        f"assert rayflow.__file__.startswith({str(made.folder)!r}), rayflow.__file__\n"
        "from rayflow.pipeline.arrival import arrive\narrive()\n"
        "from rayflow.config import load_config\nfrom rayflow.pipeline.run_plan import build_run_plan\n"
        "from rayflow.pipeline.execute import Pipeline\nfrom rayflow.pipeline.runner import LocalRunner\n"
        "from rayflow.pipeline.parts import stages_of\nimport rayflow.pipeline.execute as e\n"
        "e.preflight = lambda plan: None\n"  # the model is only a name here
        "config = load_config('config.yaml')\nplan = build_run_plan(config)\n"
        "Pipeline(plan, LocalRunner(config.compute), Console(quiet=True)).run(only=stages_of(plan, until='select'))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env=env, cwd=made.folder
    )
    assert done.returncode == 0, done.stderr
    stored = build_run_plan(made.config)
    assert stored.artifacts["pair"].committed
    assert stored.artifacts["score"].identity == stored.identities["score"]


def test_the_same_job_has_the_same_digest_and_a_changed_prompt_another(
    own: RunConfig, tmp_path: Path
) -> None:
    first, again = packed(own, tmp_path / "a"), packed(own, tmp_path / "b")
    assert first.digest == again.digest
    path = Path(own.prompts.train.path)
    path.write_text(path.read_text() + json.dumps({"prompt": "One more."}) + "\n")
    assert packed(own, tmp_path / "c").digest != first.digest


def test_where_data_lies_is_no_part_of_what_a_stage_is(own: RunConfig, tmp_path: Path) -> None:
    made = packed(own, tmp_path / "out")
    place(made.folder / "inputs", Path(own.runs_dir) / ".inputs")
    assert build_run_plan(made.config).identities == build_run_plan(own).identities


def test_placing_twice_keeps_what_is_there(own: RunConfig, tmp_path: Path) -> None:
    made, store = packed(own, tmp_path / "out"), tmp_path / "store"
    place(made.folder / "inputs", store)
    (file,) = store.iterdir()
    before = file.stat().st_mtime_ns
    place(made.folder / "inputs", store)
    assert [p.stat().st_mtime_ns for p in store.iterdir()] == [before]


def test_extends_and_overrides_are_resolved_and_the_address_is_the_cluster_s_own(
    settings: dict, tmp_path: Path
) -> None:
    (tmp_path / "base.yaml").write_text(yaml.safe_dump({**settings, "compute": {"address": "10.0.0.1:6379"}}))
    (tmp_path / "run.yaml").write_text("extends: base.yaml\nseed: 11\n")
    config = load_config(tmp_path / "run.yaml", ["select.beta=0.7"], schema_of(tmp_path / "run.yaml"))
    made = packed(config, tmp_path / "out")
    sent = yaml.safe_load((made.folder / "config.yaml").read_text())
    assert (sent["seed"], sent["select"]["beta"], sent["compute"]["address"]) == (11, 0.7, "auto")
    assert "extends" not in sent and sent["prompts"]["train"]["path"].startswith(
        config.runs_dir + "/.inputs/"
    )


def test_a_folder_that_the_cluster_sees_is_named_and_not_sent(own: RunConfig, tmp_path: Path) -> None:
    made = packed(own, tmp_path / "out", shared=[str(Path(own.prompts.train.path).parent)])
    assert not (made.folder / "inputs").exists()
    assert made.config.prompts.train.path == own.prompts.train.path
    assert f"data {own.prompts.train.path}" in made.elsewhere


def test_what_the_cluster_cannot_reach_is_a_sentence(
    own: RunConfig, settings: dict, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(error: type[Exception], message: str, **changes: object) -> None:
        config = own.model_copy(update=changes)
        with pytest.raises(error, match=message):
            packed(config, tmp_path / message[:8].replace("/", "-").replace(" ", "-"))

    refused(ConfigError, "runs_dir 'runs' is relative", runs_dir="runs")
    refused(ConfigError, "model './here' is a relative path", model="./here")
    missing = own.prompts.model_copy(
        update={"train": own.prompts.train.model_copy(update={"path": "/no.jsonl"})}
    )
    refused(DataError, r"prompts.train: .*does not exist.*--shared", prompts=missing)
    monkeypatch.setattr(package, "MAX_INPUT_BYTES", 10)
    refused(DataError, "too much to send")


def test_a_reward_inside_an_ensemble_is_found(settings: dict, own_code: Path, tmp_path: Path) -> None:
    member = {"name": "a", "reward": {"kind": "rule", "function": "their_reward:kind"}}
    other = {"name": "b", "reward": {"kind": "classifier", "model": "./mine"}}
    (tmp_path / "one").mkdir()

    def of(*members: dict) -> RunConfig:
        return RunConfig.model_validate({**settings, "reward": {"kind": "ensemble", "members": members}})

    assert "their_reward" in pack(of(member, {**member, "name": "c"}), tmp_path / "one").plugins
    with pytest.raises(ConfigError, match="reward.members.1.reward.model './mine'"):
        packed(of(member, other), tmp_path / "two")


def test_a_plug_in_that_is_nowhere_is_refused(settings: dict, tmp_path: Path) -> None:
    config = RunConfig.model_validate(
        {**settings, "reward": {"kind": "rule", "function": "no_such_module:f"}}
    )
    with pytest.raises(
        ConfigError, match="function 'no_such_module:f': module 'no_such_module' is not found here"
    ):
        packed(config, tmp_path / "out")


def test_the_kind_of_job_follows_from_the_file(tmp_path: Path) -> None:
    (tmp_path / "base.yaml").write_text("data: {train: {path: x}}")
    (tmp_path / "a.yaml").write_text("extends: base.yaml")
    (tmp_path / "b.yaml").write_text("name: b")
    assert (schema_of(tmp_path / "a.yaml"), schema_of(tmp_path / "b.yaml")) == (RewardConfig, RunConfig)


def test_a_variable_that_the_cluster_lacks_is_named(
    own: RunConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = packed(own, tmp_path / "out")
    monkeypatch.setenv(REQUIRED, "PATH,NO_SUCH_SECRET")
    with pytest.raises(ConfigError, match="needs the environment variable NO_SUCH_SECRET"):
        arrive(made.folder)
    monkeypatch.setenv("NO_SUCH_SECRET", "now it is")
    arrive(made.folder)
    assert len(list((Path(own.runs_dir) / ".inputs").iterdir())) == 1


def test_of_a_folder_only_its_data_files_go_along(own: RunConfig, tmp_path: Path) -> None:
    """Ray heeds a .gitignore inside what it sends, and what lies beside data may be a secret."""
    folder = tmp_path / "data"
    (folder / "more").mkdir(parents=True)
    rows = Path(own.prompts.train.path).read_text()
    (folder / "big.jsonl").write_text(rows)
    (folder / ".gitignore").write_text("*.jsonl\n")
    (folder / ".env").write_text("TOKEN=x\n")
    (folder / "more" / "notes.txt").write_text("later\n")
    train = own.prompts.train.model_copy(update={"path": str(folder)})
    changed = own.model_copy(update={"prompts": own.prompts.model_copy(update={"train": train})})
    made = packed(changed, tmp_path / "out")
    sent = [path for path in (made.folder / "inputs").rglob("*") if path.is_file()]
    assert [path.name for path in sent] == ["big.jsonl"] and sent[0].read_text() == rows
    place(made.folder / "inputs", Path(own.runs_dir) / ".inputs")
    assert build_run_plan(made.config).identities == build_run_plan(changed).identities


def test_a_judges_own_template_goes_along(tmp_path: Path, tiny_model: str) -> None:
    template = tmp_path / "mine.txt"
    template.write_text("{prompt} {response_a} {response_b}")
    settings = evaluation_settings(tmp_path, tiny_model, tiny_model)
    judge = {**settings["side_by_side"], "template": str(template)}
    made = packed(EvaluateConfig.model_validate({**settings, "side_by_side": judge}), tmp_path / "out")
    stored = Path(made.config.side_by_side.template)
    assert stored.parent == Path(settings["runs_dir"]) / ".inputs" and str(template) in made.inputs
    assert (made.folder / "inputs" / stored.name).read_text() == template.read_text()
    named = packed(EvaluateConfig.model_validate(settings), tmp_path / "named")
    assert named.config.side_by_side.template == "generic"
