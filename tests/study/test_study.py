"""A study from its preferences to its page: the shipped one, on a tiny model, with two of its rows."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import pytest
from rich.console import Console

from rayflow.core.files import read_json
from rayflow.errors import ArtifactError, ConfigError
from rayflow.study.page import write
from rayflow.study.parts import Study, load_study
from rayflow.study.run import StudyRun

ROOT = Path(__file__).parents[2]
SENTIMENT = ROOT / "jobs" / "configs" / "study" / "sentiment.yaml"


def small(model: str, runs_dir: Path, *more: str) -> Study:
    """The shipped study with less of everything and a tiny model."""
    engine = "{kind: transformers, dtype: float32}"
    settings = {
        "runs_dir": runs_dir,
        "model": model,
        "seeds": "[1, 2]",
        "rows": "{raft: {title: RAFT, settings: {select: {kind: top_k, num_accepted: 1}, pair: none, "
        "train.loss: cross_entropy}}, rso: {title: RSO, group: rso}, direct: {title: DPO, group: direct, settings: "
        "{source: direct, select: null, pair: null, prompts.train: {path: '{preferences}', layout: trl, limit: 8}}}}",
        "sweeps": "{gamma: {title: Gamma, row: rso, setting: train.loss.gamma, own: 0.05, values: [0.5]}}",
        "tables": "{table1: {title: Table 1, rows: [raft, direct, rso], paper: {gold: {raft: 60, rso: 80}}}}",
        "preferences.prompts.train.limit": 8,
        "preferences.sample.num_candidates": 4,
        "preferences.sample.max_tokens": 4,
        "preferences.sample.engine": engine,
        "preferences.reward.function": "tests.study.test_study:vowels",
        "preferences.pair.temperature": 5,
        "proxy.train.precision": "float32",
        "proxy.train.num_epochs": 1,
        "run.prompts.train.limit": 4,
        "run.sample.num_candidates": 8,
        "run.sample.max_tokens": 4,
        "run.sample.engine": engine,
        "run.select.num_accepted": 4,
        "run.reference.precision": "float32",
        "run.train.precision": "float32",
        "evaluation.prompts.limit": 3,
        "evaluation.sample.max_tokens": 4,
        "evaluation.sample.engine": engine,
        "evaluation.kl.precision": "float32",
        "evaluation.rewards.gold.function": "tests.study.test_study:vowels",
    }
    return load_study(SENTIMENT, [f"{key}={value}" for key, value in settings.items()] + list(more))


def vowels(prompt: str, response: str) -> float:
    """A reward that sampled text has more or less of."""
    return float(sum(letter in "aeiou" for letter in response))


def test_the_shipped_study_names_the_rows_of_the_papers_tables(monkeypatch):
    monkeypatch.chdir(ROOT)
    config = load_study(SENTIMENT, []).config
    assert len(config.tables["table1"].rows) == 11
    assert len(config.tables["table2"].rows) == 6
    assert {"rs-dpo", "best-worst", "rrhf", "rso-gumbel"} <= set(config.rows)
    assert len(config.seeds) == 3
    assert set(config.sweeps) == {"gamma", "beta"}


def test_a_table_that_names_an_unknown_row_is_an_error(tiny_model, tmp_path, monkeypatch):
    monkeypatch.chdir(ROOT)
    with pytest.raises(ConfigError, match="names the row 'slic'"):
        small(tiny_model, tmp_path, "tables.table1.rows=[slic]")


def test_a_row_whose_setting_does_not_exist_is_an_error_before_anything_runs(
    tiny_model, tmp_path, monkeypatch
):
    monkeypatch.chdir(ROOT)
    with pytest.raises(ConfigError, match="gama"):
        small(tiny_model, tmp_path, "rows.rso.settings={train.loss.gama: 1}")
    assert not any(tmp_path.iterdir())


def test_a_study_runs_shares_stages_resumes_and_is_reported(tiny_model, tmp_path, monkeypatch):
    monkeypatch.chdir(ROOT)
    study = small(tiny_model, tmp_path)
    console = Console(quiet=True)
    StudyRun(study, console).run()
    root = study.config.root
    results = sorted(path.relative_to(root / "rows").as_posix() for path in root.glob("rows/*/seed-*.json"))
    assert len(results) == 4 * 2

    def inode(run: Path, stage: str) -> int:
        (marker,) = run.glob(f"*-{stage}/manifest.json")
        return marker.stat().st_ino

    rows = root / "rows"
    for stage in ("sample", "score"):  # one for all rows and seeds
        shared = inode(root / "shared", stage)
        assert {inode(rows / row / f"seed-{s}", stage) for row in ("raft", "rso") for s in (1, 2)} == {shared}
    for stage in ("select", "pair", "reference"):  # another loss, the same pairs; another seed, other pairs
        same, swept = rows / "rso", rows / "rso.gamma=0.5"
        assert inode(same / "seed-1", stage) == inode(swept / "seed-1", stage)
        assert inode(same / "seed-1", stage) != inode(same / "seed-2", stage)
    answers = [inode(run, "baseline-sample") for run in rows.glob("*/seed-*-evaluation")]
    assert len(answers) == 8 and len(set(answers)) == 1
    assert not list(root.glob("rows/*/*/*-train/model"))  # measured, and no longer needed

    before = {path: path.stat().st_mtime_ns for path in root.glob("rows/*/seed-*.json")}
    (rows / "raft" / "seed-2.json").unlink()
    for folder in (rows / "raft").glob("seed-2*"):
        shutil.rmtree(folder)
    StudyRun(study, console).run()
    again = {path: path.stat().st_mtime_ns for path in root.glob("rows/*/seed-*.json")}
    assert {path for path in before if before[path] != again[path]} == {rows / "raft" / "seed-2.json"}

    page, lead = write(study, tmp_path / "out")
    text, numbers = page.read_text(encoding="utf-8"), read_json(tmp_path / "out" / "study.json")
    assert "Table 1" in text and "SFT policy" in lead
    assert set(numbers["rows"]) == {"raft", "rso", "direct", "rso.gamma=0.5"}
    for row in numbers["rows"].values():
        low, high = row["wins"]["gold"][1:]
        assert 0 <= low <= row["wins"]["gold"][0] <= high <= 1 and row["seeds"] == [1, 2]
    assert (tmp_path / "out" / "tables.md").read_text().count("| RAFT |") == 1

    bad = "<script>alert(1)</script>"
    table = study.config.tables["table1"].model_copy(update={"title": bad, "source": bad})
    changed = {name: row.model_copy(update={"title": bad}) for name, row in study.config.rows.items()}
    sweep = study.config.sweeps["gamma"].model_copy(update={"title": bad})
    hostile = {"tables": {"table1": table}, "rows": changed, "sweeps": {"gamma": sweep}}
    planted = replace(study, config=study.config.model_copy(update=hostile))
    text = write(planted, tmp_path / "bad")[0].read_text(encoding="utf-8")
    assert "<script" not in text and text.count("&lt;script&gt;") > 4


def test_a_row_measured_with_another_configuration_is_refused(tiny_model, tmp_path, monkeypatch):
    monkeypatch.chdir(ROOT)
    one = ("rows={rso: {title: RSO}}", "sweeps={}", "tables={}", "seeds=[1]")
    StudyRun(small(tiny_model, tmp_path, *one), Console(quiet=True)).run()
    with pytest.raises(ArtifactError, match="another configuration"):
        StudyRun(small(tiny_model, tmp_path, *one, "run.train.learning_rate=0.5"), Console(quiet=True)).run()
