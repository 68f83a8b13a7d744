"""The command line as a person meets it: fast help, sentences for mistakes, selection and export again."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from datetime import datetime
from pathlib import Path

import pyarrow.parquet as pq
import pytest
import yaml
from typer.testing import CliRunner

from rayflow import __version__
from rayflow.cli.app import app
from rayflow.config import load_config
from rayflow.core.registry import FAMILIES
from rayflow.errors import ArtifactError, ConfigError
from tests.pipeline.conftest import NUM_PROMPTS, config, prompt_file, settings  # noqa: F401
from tests.pipeline.helpers import run_data, tables


def rayflow(*arguments: object) -> str:
    result = CliRunner().invoke(app, [str(a) for a in arguments], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.output


@pytest.fixture
def finished(config) -> Path:  # noqa: ANN001, F811
    """A run's folder with everything up to the pairs."""
    run_data(config)
    return config.root


def test_help_names_the_commands_without_loading_anything_heavy() -> None:
    code = (
        "import sys; from rayflow.cli.app import app\n"
        "try: app(['--help'])\n"
        "except SystemExit: pass\n"
        "heavy = {'ray', 'torch', 'vllm', 'deepspeed', 'transformers', 'pyarrow', 'pydantic'} & set(sys.modules)\n"
        "assert not heavy, heavy"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    names = (
        "run train-reward report select diagnose export submit jobs status logs cancel doctor lineage cluster evaluate "
        "human verify refresh table schedule show study"
    )
    for command in names.split():
        assert command in done.stdout


def test_a_mistake_is_a_sentence_and_exit_code_1(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "rayflow", "run", str(tmp_path / "no.yaml")],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 1
    assert done.stderr.startswith("Error: Configuration file") and "Traceback" not in done.stderr


def test_the_version_is_the_packages() -> None:
    assert rayflow("--version").strip() == __version__


def test_dry_run_prints_the_plan_and_starts_nothing(settings: dict, tmp_path: Path) -> None:  # noqa: F811
    path = tmp_path / "run.yaml"
    path.write_text(yaml.safe_dump(settings))
    text = rayflow("run", path, "--dry-run")
    for stage in ("01-prompts", "02-sample", "07-train"):
        assert stage in text
    assert "to do" in text and not (tmp_path / "runs").exists()
    assert " 0 GPU" not in text and max(map(len, text.splitlines()[1:])) <= 80
    assert text.endswith("Nothing was started.\n")
    asked = rayflow("run", path, "--dry-run", "--set", "compute.address=head:6379")
    assert asked.endswith("Whether a cluster answers at head:6379 (compute.address) was not asked.\n")
    part = rayflow("run", path, "--dry-run", "--until", "select")
    assert "05-pair" in part and "07-train" not in part
    with pytest.raises(ConfigError, match="Unknown stage 'selct'"):
        rayflow("run", path, "--dry-run", "--force-stage", "selct")


def test_brackets_in_a_folders_name_are_printed(settings: dict, tmp_path: Path) -> None:  # noqa: F811
    path = tmp_path / "run.yaml"
    path.write_text(yaml.safe_dump(settings | {"runs_dir": str(tmp_path / "of [bold]")}))
    assert str(tmp_path / "of [bold]") in rayflow("run", path, "--dry-run")


def test_a_dry_run_shows_what_would_be_made_again(finished: Path) -> None:
    text = rayflow("run", finished / "config.yaml", "--dry-run", "--force-stage", "select")
    again = {line.split()[0] for line in text.splitlines() if line.rstrip().endswith("to do again")}
    assert {"04-select", "05-pair"} <= again and not {"02-sample", "03-score"} & again


@pytest.mark.parametrize("pairing", sorted(set(FAMILIES["pairing"]) - {"none"}))
def test_selecting_again_takes_any_pairing(finished: Path, pairing: str) -> None:
    """The stored configuration holds every setting of the first one."""
    rayflow("select", finished, "--pairing", pairing, "--name", f"by-{pairing}")
    assert load_config(finished.parent / f"by-{pairing}" / "config.yaml").pair.kind == pairing


def test_a_reward_beside_the_configuration_is_found(settings: dict, tmp_path: Path) -> None:  # noqa: F811
    (tmp_path / "brief_reward.py").write_text(
        "def brevity(prompt, response):\n    return -float(len(response))\n"
    )
    reward = {"kind": "rule", "function": "brief_reward:brevity"}
    (tmp_path / "run.yaml").write_text(yaml.safe_dump({**settings, "reward": reward}))
    done = subprocess.run(
        [Path(sys.executable).with_name("rayflow"), "run", "run.yaml", "--until", "score"],
        capture_output=True,
        text=True,
        cwd=tmp_path,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "03-score" in {path.name for path in (tmp_path / "runs").glob("*/*")}


def test_selecting_again_needs_no_model_and_leaves_the_first_run_alone(finished: Path) -> None:
    before = sorted(p.name for p in finished.rglob("*"))
    text = rayflow(
        "select", finished, "--beta", 0.9, "--num-accepted", 6, "--pairing", "tournament", "--name", "again"
    )
    again = finished.parent / "again"
    assert str(again) in text
    assert before == [
        n for n in sorted(p.name for p in finished.rglob("*")) if n not in ("report.html", "summary.json")
    ]
    accepted = pq.read_table(next((again / "04-select" / "shards").glob("*.parquet"))).to_pylist()
    pairs = pq.read_table(next((again / "05-pair" / "shards").glob("*.parquet"))).to_pylist()
    assert all(len(row["accepted"]) == 6 for row in accepted)
    assert all(len(row["pairs"]) <= 5 for row in pairs) and any(len(row["pairs"]) > 3 for row in pairs)
    assert json.loads((again / "summary.json").read_text())["selection"] is not None


def test_a_selection_is_a_run_with_a_name_and_a_time_of_its_own(finished: Path) -> None:
    before = time.time()
    rayflow("select", finished, "--beta", 0.9, "--name", "again")
    again = finished.with_name("again")
    marker = json.loads((again / "run.json").read_text())
    assert marker["name"] == "again" and before <= marker["created"] <= time.time()
    pairs = pq.read_table(next((again / "05-pair" / "shards").glob("*.parquet"))).to_pylist()
    assert "in run again (" in rayflow("lineage", again, pairs[0]["prompt_id"])
    created = datetime.fromisoformat(json.loads((again / "summary.json").read_text())["created"])
    assert created.timestamp() >= int(before)
    assert json.loads((finished / "run.json").read_text())["name"] == finished.name


def test_a_selection_is_trained_where_the_first_run_was(finished: Path, settings: dict) -> None:  # noqa: F811
    """Selecting needs no Ray; what comes after it does what the first run would have done."""
    path = finished / "config.yaml"
    path.write_text(path.read_text().replace("runner: local", "runner: ray"))
    told = rayflow("select", finished, "--beta", 1.5, "--name", "again")
    again = finished.with_name("again")
    assert f"Train with it: rayflow run {again}" in told and "Nothing has been trained yet." in told
    assert load_config(again / "config.yaml").compute.runner == "ray"
    shown = rayflow("run", again, "--dry-run", "--set", "compute.runner=local")
    assert shown.count("stored") == 5 and f"again: {again}" in shown.replace("\n", "")


def test_selecting_again_cannot_change_the_scores(finished: Path) -> None:
    before = sorted(finished.parent.iterdir())
    with pytest.raises(
        ConfigError, match=r"cannot change prompts, sampling[\s\S]*sample.temperature[\s\S]*name=NEW"
    ):
        rayflow("select", finished, "--set", "sample.temperature=0.1", "--name", "hotter")
    assert sorted(finished.parent.iterdir()) == before, "a refused call must leave no half folder"
    with pytest.raises(ConfigError, match="Say what to change"):
        rayflow("select", finished)


def test_a_selection_lies_where_its_settings_say(finished: Path, tmp_path: Path) -> None:
    rayflow("select", finished, "--set", "name=viaset", "--beta", 0.9)
    assert (finished.parent / "viaset" / "04-select").exists()
    rayflow("select", finished, "--set", f"runs_dir={tmp_path / 'other'}", "--name", "sel2", "--beta", 0.9)
    assert (tmp_path / "other" / "sel2" / "04-select").exists() and not (finished.parent / "sel2").exists()
    rayflow("select", finished, "--set", f"runs_dir={tmp_path / 'other'}", "--beta", 0.9)
    assert (tmp_path / "other" / f"{finished.name}-select-beta-0-9").exists()
    assert len(list(finished.parent.iterdir())) == 2
    with pytest.raises(ConfigError, match="Say what to change"):
        rayflow("select", finished, "--set", "name=nothing")


def test_a_selection_never_goes_into_a_folder_that_holds_another(finished: Path) -> None:
    with pytest.raises(ConfigError, match="is the run to select from. .* --name NAME"):
        rayflow("select", finished, "--beta", 0.9, "--name", finished.name)
    rayflow("select", finished, "--beta", 0.9, "--name", "again")
    rayflow("select", finished, "--beta", 0.9, "--name", "again")
    with pytest.raises(
        ArtifactError, match=r"beta: stored 0.9, now 1.1[\s\S]*Give the new run another name"
    ) as told:
        rayflow("select", finished, "--beta", 1.1, "--name", "again")
    assert "--force-stage" not in str(told.value)  # which `select` does not have


def test_diagnosing_prints_a_recommendation_and_writes_page_and_numbers(
    finished: Path, tmp_path: Path
) -> None:
    text = rayflow("diagnose", finished)
    numbers = json.loads((finished / "diagnose.json").read_text())
    assert f"→ {numbers['recommended']:g} " in text and str(finished / "diagnose.html") in text
    assert "0.1 (run)" in text and numbers["own_beta"] == 0.1 and numbers["num_accepted"] == 4
    assert "Mean reward against KL" in (finished / "diagnose.html").read_text()
    rayflow(
        "diagnose",
        finished,
        "--beta",
        0.5,
        "--beta",
        2,
        "--num-accepted",
        2,
        "--kl-budget",
        0.3,
        "--output",
        tmp_path,
    )
    other = json.loads((tmp_path / "diagnose.json").read_text())
    assert {0.5, 2.0} < {point["beta"] for point in other["points"]}
    assert (other["num_accepted"], other["kl_budget"]) == (2, 0.3)


def test_diagnosing_loads_no_model_and_no_framework(finished: Path) -> None:
    code = (
        "import sys; from rayflow.cli.app import app\n"
        f"try: app(['diagnose', {str(finished)!r}])\n"
        "except SystemExit as end: assert not end.code\n"
        "heavy = {'ray', 'torch', 'vllm', 'deepspeed', 'transformers'} & set(sys.modules)\n"
        "assert not heavy, heavy"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_diagnosing_says_what_is_missing(finished: Path) -> None:
    (finished / "03-score" / "manifest.json").unlink()
    with pytest.raises(ArtifactError, match="03-score is not finished; run it first"):
        rayflow("diagnose", finished)


@pytest.mark.parametrize("suffix", ["jsonl", "parquet"])
def test_export_holds_every_pair_once(finished: Path, config, tmp_path: Path, suffix: str) -> None:  # noqa: ANN001, F811
    output = tmp_path / f"pairs.{suffix}"
    text = rayflow("export", finished, "--output", output)
    rows = (
        [json.loads(line) for line in output.read_text().splitlines()]
        if suffix == "jsonl"
        else pq.read_table(output).to_pylist()
    )
    plan, _ = run_data(config)
    stored = tables(plan)
    assert len(rows) == sum(len(row["pairs"]) for row in stored["pair"]) and str(len(rows)) in text
    assert len({row["pair_id"] for row in rows}) == len(rows)
    responses = {row["prompt_id"]: row["responses"] for row in stored["sample"]}
    for row in rows:
        prompt, _, pair = row["pair_id"].partition("/")
        chosen, _, rejected = pair.partition(">")
        assert row["chosen"] == responses[prompt][int(chosen)]
        assert row["rejected"] == responses[prompt][int(rejected)]
        assert row["score_chosen"] > row["score_rejected"]


def test_export_says_what_it_cannot_do(finished: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="Known: trl"):
        rayflow("export", finished, "--format", "csv")
    with pytest.raises(ConfigError, match="name a .jsonl or a .parquet"):
        rayflow("export", finished, "--output", tmp_path / "a.csv")
    with pytest.raises(ArtifactError, match="not a run's folder"):
        rayflow("report", tmp_path)


def test_a_report_of_an_unfinished_run_says_what_is_missing(finished: Path) -> None:
    rayflow("report", finished)
    summary = json.loads((finished / "summary.json").read_text())
    assert summary["selection"]["num_prompts"] == NUM_PROMPTS
    assert summary["evaluation"] is None and "evaluation" in summary["missing"]


def test_export_tells_of_responses_that_were_cut(finished: Path, tmp_path: Path) -> None:
    told = rayflow("export", finished, "--output", tmp_path / "pairs.jsonl")
    rows = [json.loads(line) for line in (tmp_path / "pairs.jsonl").read_text().splitlines()]
    cut = sum("length" in (row["finish_reason_chosen"], row["finish_reason_rejected"]) for row in rows)
    assert 0 < cut < len(rows) and f"{cut} of them hold a response that was cut" in told


def test_export_of_a_run_on_given_pairs_says_where_they_are(settings: dict, tmp_path: Path) -> None:  # noqa: F811
    pairs = tmp_path / "pairs.jsonl"
    pairs.write_text(json.dumps({"prompt": "a", "chosen": "b", "rejected": "c"}) + "\n")
    given = {key: value for key, value in settings.items() if key not in ("sample", "select", "reward")}
    given |= {"source": "direct", "prompts": {"train": {"path": str(pairs)}}}
    folder = tmp_path / "runs" / "small"
    folder.mkdir(parents=True)
    (folder / "config.yaml").write_text(yaml.safe_dump(given))
    with pytest.raises(ConfigError, match="makes no pairs: its responses are the data's own.*pairs.jsonl"):
        rayflow("export", folder)
