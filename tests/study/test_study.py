"""A study from its preferences to its page: the shipped one, on a tiny model, with two of its rows."""

from __future__ import annotations

import io
import json
import re
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
from rich.console import Console

from rayflow.core.files import read_json, write_json
from rayflow.errors import ArtifactError, ConfigError, ModelError
from rayflow.pipeline import export
from rayflow.study.dry_run import dry_run
from rayflow.study.found import collect
from rayflow.study.page import write
from rayflow.study.parts import Study, load_study
from rayflow.study.run import StudyRun, _check
from tests.study.example import result

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
        "sweeps": "{gamma: {title: Gamma, row: rso, setting: train.loss.gamma, own: 0.5, values: [0.05]}}",
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


PAIRED = {"sigmoid_norm": 0.5, "hinge": 0.05, "hinge_norm": 0.5}
"""Losses of pairs in the shipped study, with gamma."""


def shipped_rows(seed: int = 1) -> dict[str, tuple[object, ...]]:
    """(selection, how many it accepts, pairing, loss, gamma) of every row as it is resolved."""
    study = load_study(SENTIMENT, [])
    runs = {name: study.row(name, seed) for name in study.config.all_rows}
    return {
        name: (
            run.select.kind,
            getattr(run.select, "num_accepted", None),
            run.pair.kind,
            run.train.loss.kind,
            getattr(run.train.loss, "gamma", None),
        )
        for name, run in runs.items()
    }


def test_every_row_of_the_shipped_study_is_what_the_paper_says(monkeypatch):
    monkeypatch.chdir(ROOT)
    expected: dict[str, tuple[object, ...]] = {
        "raft": ("top_k", 1, "none", "cross_entropy", None),
        "rest": ("threshold", None, "none", "cross_entropy", None),
        "rs-dpo": ("first_k", 16, "gap", "sigmoid_norm", 1.0),
        "best-worst": ("all", None, "best_worst", "sigmoid_norm", 0.5),
        "rrhf": ("first_k", 8, "none", "rrhf", None),
        "rso-gumbel": ("gumbel", 8, "first_round", "sigmoid_norm", 0.5),
        "sft-tournament": ("first_k", 8, "tournament", "sigmoid_norm", 0.5),
        "rso-tournament": ("rejection", 8, "tournament", "sigmoid_norm", 0.5),
        "sft64-first-round": ("all", None, "first_round", "sigmoid_norm", 0.5),
        "sft64-tournament": ("all", None, "tournament", "sigmoid_norm", 0.5),
        **{
            f"rso-sigmoid_norm.gamma={g}": ("rejection", 8, "first_round", "sigmoid_norm", g)
            for g in (0.05, 5)
        },
        **{
            f"rso-sigmoid_norm.beta={b}": ("rejection", 8, "first_round", "sigmoid_norm", 0.5)
            for b in (0, 0.05, 1.5, 5)
        },
    }
    for source, kind in (("direct", "first_k"), ("sft", "first_k"), ("rso", "rejection")):
        expected |= {
            f"{source}-{loss}": (kind, 8, "first_round", loss, gamma) for loss, gamma in PAIRED.items()
        }
    assert shipped_rows() == expected


def test_the_rows_differ_from_the_common_run_in_nothing_else(monkeypatch):
    """Same prompts, samples, steps and evaluation; the direct rows draw by the annotator and are labelled by gold."""
    monkeypatch.chdir(ROOT)
    study = load_study(SENTIMENT, [])
    base, preferences = study.base(), study.preferences()
    for name, options in study.config.all_rows.items():
        run = study.row(name, 2)
        direct = options.group == "direct"
        assert (
            run.source == "sampled" and run.prompts == base.prompts and run.sample.seed == study.config.seed
        )
        assert run.train.model_copy(update={"loss": base.train.loss}) == base.train
        assert run.reward == (preferences.reward if direct else base.reward)
        drawn = preferences.sample if direct else base.sample
        same = {"seed": None, "num_candidates": 8} if direct else {"seed": None}
        assert run.sample.model_copy(update={"seed": None}) == drawn.model_copy(update=same)
        if direct:
            assert run.pair == preferences.pair
    betas = {
        name: study.row(name, 1).select.beta for name in study.config.all_rows if name.startswith("rso-sig")
    }
    assert sorted(betas.values()) == [0, 0.05, 0.5, 0.5, 0.5, 1.5, 5]


def test_the_shipped_study_measures_on_prompts_that_nothing_was_trained_on(monkeypatch):
    monkeypatch.chdir(ROOT)
    study = load_study(SENTIMENT, [])
    assert study.base().prompts.train.path == study.preferences().prompts.train.path
    assert study.evaluation("rrhf", 1, "m", {}).prompts.path != study.base().prompts.train.path
    assert len(study.config.tables["table1"].rows) == 11 and len(study.config.tables["table2"].rows) == 6
    assert len(study.config.seeds) == 3
    assert all(table.source for table in study.config.tables.values())


def test_a_table_that_names_an_unknown_row_is_an_error(tiny_model, tmp_path, monkeypatch):
    monkeypatch.chdir(ROOT)
    with pytest.raises(ConfigError, match="names the row 'slic'"):
        small(tiny_model, tmp_path, "tables.table1.rows=[slic]")


def test_a_study_says_where_tracking_is_set(monkeypatch):
    monkeypatch.chdir(ROOT)
    with pytest.raises(ConfigError, match="--set run.track=tensorboard"):
        load_study(SENTIMENT, ["track=tensorboard"])
    assert load_study(SENTIMENT, ["run.track=tensorboard"]).base().track.kind == "tensorboard"


def test_a_sweep_whose_row_has_another_value_is_an_error(monkeypatch):
    monkeypatch.chdir(ROOT)
    path = ROOT / "jobs" / "configs" / "study" / "sentiment.yaml"
    with pytest.raises(ConfigError, match=r"sweeps\.beta\.own is 0\.5, and the row .* has select\.beta=1\.5"):
        load_study(path, ["run.select.beta=1.5"])


def test_a_row_whose_setting_does_not_exist_is_an_error_before_anything_runs(
    tiny_model, tmp_path, monkeypatch
):
    monkeypatch.chdir(ROOT)
    with pytest.raises(ConfigError, match="gama"):
        small(tiny_model, tmp_path, "rows.rso.settings={train.loss.gama: 1}")
    assert not any(tmp_path.iterdir())


def test_a_measurement_without_divergence_is_an_error_before_anything_runs(tiny_model, tmp_path, monkeypatch):
    monkeypatch.chdir(ROOT)
    with pytest.raises(ConfigError, match=r"evaluation\.yaml: kl must not be null"):
        small(tiny_model, tmp_path, "evaluation.kl=null")
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
        same, swept = rows / "rso", rows / "rso.gamma=0.05"
        assert inode(same / "seed-1", stage) == inode(swept / "seed-1", stage)
        assert inode(same / "seed-1", stage) != inode(same / "seed-2", stage)
    answers = [inode(run, "baseline-sample") for run in rows.glob("*/seed-*-evaluation")]
    assert len(answers) == 8 and len(set(answers)) == 1
    assert not list(root.glob("rows/*/*/*-train/model"))  # measured, and no longer needed

    judged = read_json(root / "pairs.json")  # RAFT has no pairs, and given ones have no candidates
    assert set(judged) == {"rso", "rso.gamma=0.05"} and judged["rso"] == judged["rso.gamma=0.05"]
    assert judged["rso"]["count"] == 4 * 2 and 0 <= judged["rso"]["agreement"] <= 1
    assert len(list(root.glob("gold/*"))) == 1  # both have the same candidates

    before = {path: path.stat().st_mtime_ns for path in root.glob("rows/*/seed-*.json")}
    (rows / "raft" / "seed-2.json").unlink()
    for folder in (rows / "raft").glob("seed-2*"):
        shutil.rmtree(folder)
    StudyRun(study, console).run()
    again = {path: path.stat().st_mtime_ns for path in root.glob("rows/*/seed-*.json")}
    assert {path for path in before if before[path] != again[path]} == {rows / "raft" / "seed-2.json"}

    changed = replace(study, overrides=(*study.overrides, "run.train.learning_rate=0.25"))
    with pytest.raises(ArtifactError, match="was measured with another configuration"):
        collect(changed)

    page, lead = write(collect(study), tmp_path / "out")
    text, numbers = page.read_text(encoding="utf-8"), read_json(tmp_path / "out" / "study.json")
    assert "Table 1" in text and "SFT policy" in lead
    assert set(numbers["rows"]) == {"raft", "rso", "direct", "rso.gamma=0.05"}
    for row in numbers["rows"].values():
        won = row["wins"]["gold"]
        assert won["mean"] == pytest.approx(sum(row["seed_wins"]["gold"]) / 2)
        assert won["low"] <= won["mean"] <= won["high"] and row["seeds"] == [1, 2]
        assert row["cut"] == pytest.approx(
            sum(r["cut"] for r in numbers["results"] if r["row"] == row["row"]) / 2
        )
    assert (tmp_path / "out" / "tables.md").read_text().count("| RAFT |") == 2  # and the paper's

    bad = "<script>alert(1)</script>"
    table = study.config.tables["table1"].model_copy(update={"title": bad, "source": bad})
    changed = {name: row.model_copy(update={"title": bad}) for name, row in study.config.rows.items()}
    sweep = study.config.sweeps["gamma"].model_copy(update={"title": bad})
    hostile = {"tables": {"table1": table}, "rows": changed, "sweeps": {"gamma": sweep}}
    planted = replace(study, config=study.config.model_copy(update=hostile))
    text = write(collect(planted), tmp_path / "bad")[0].read_text(encoding="utf-8")
    assert "<script" not in text and text.count("&lt;script&gt;") > 4


def test_a_moved_study_goes_on_without_redoing_anything(tiny_model, tmp_path, monkeypatch):
    monkeypatch.chdir(ROOT)
    one = ("rows={rso: {title: RSO}}", "sweeps={}", "tables={}", "seeds=[1]")
    StudyRun(small(tiny_model, tmp_path / "here", *one), Console(quiet=True)).run()
    (tmp_path / "here").rename(tmp_path / "there")
    moved = small(tiny_model, tmp_path / "there", *one)
    before = (moved.config.root / "rows" / "rso" / "seed-1.json").stat().st_mtime_ns
    StudyRun(moved, Console(quiet=True)).run()
    assert (moved.config.root / "rows" / "rso" / "seed-1.json").stat().st_mtime_ns == before
    assert not (tmp_path / "here").exists()


def test_preferences_are_whole_or_not_there(tiny_model, tmp_path, monkeypatch):
    """A run that is killed while it writes them must not leave a short file that the next one trusts."""
    monkeypatch.chdir(ROOT)
    study = small(tiny_model, tmp_path, "rows={rso: {title: RSO}}", "sweeps={}", "tables={}", "seeds=[1]")
    whole, written = export.trl_rows, []

    def killed(artifacts):
        written.extend(next(whole(artifacts)))
        yield written
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(export, "trl_rows", killed)
        StudyRun(study, Console(quiet=True)).run()
    assert written and not study.preferences_file.exists()
    assert not list(study.config.root.glob(".preferences*"))


def test_a_row_measured_with_another_configuration_is_refused(tiny_model, tmp_path, monkeypatch):
    monkeypatch.chdir(ROOT)
    one = ("rows={rso: {title: RSO}}", "sweeps={}", "tables={}", "seeds=[1]")
    StudyRun(small(tiny_model, tmp_path, *one), Console(quiet=True)).run()
    with pytest.raises(ArtifactError, match="another configuration"):
        StudyRun(small(tiny_model, tmp_path, *one, "run.train.learning_rate=0.5"), Console(quiet=True)).run()


def test_what_changes_no_number_does_not_change_what_a_row_was_measured_by(tiny_model, tmp_path, monkeypatch):
    monkeypatch.chdir(ROOT)
    moved = shutil.copytree(tiny_model, tmp_path / "moved")
    gold = "evaluation.rewards.gold={{kind: classifier, model: {}}}"

    def measured(model: object, proxy: object, *more: str) -> dict:
        study = small(tiny_model, tmp_path / "runs", gold.format(model), *more)
        return study.measuring("rso", 1, {"{preferences}": "unread", "{proxy}": str(proxy)})

    before = measured(tiny_model, tiny_model)
    faster = ("evaluation.kl.batch_tokens=64", "evaluation.sample.engine.max_batch_rows=3")
    assert measured(moved, moved, *faster, "evaluation.rewards.gold.device=cpu") == before
    assert "missing_eos_penalty" not in json.dumps(before)  # of 0, as if there were none
    assert json.loads(json.dumps(before)) == before


def test_a_changed_prompt_or_gold_model_is_named_when_a_measured_row_is_looked_at_again(
    tiny_model, tmp_path, monkeypatch
):
    monkeypatch.chdir(ROOT)
    gold, prompts = shutil.copytree(tiny_model, tmp_path / "gold"), tmp_path / "held-out.jsonl"
    prompts.write_text('{"prompt": "one"}\n')
    more = (
        f"evaluation.rewards.gold={{kind: classifier, model: {gold}}}",
        f"evaluation.prompts.path={prompts}",
    )
    study = small(tiny_model, tmp_path / "runs", *more)
    known = {"{preferences}": "unread", "{proxy}": tiny_model}
    path = tmp_path / "seed-1.json"
    write_json(path, {"identity": {"evaluation": study.measuring("rso", 1, known)}})
    _check(path, {"evaluation": study.measuring("rso", 1, known)})
    (gold / "config.json").write_text((gold / "config.json").read_text() + "\n")
    with pytest.raises(
        ArtifactError, match=r"evaluation\.policy-score-gold\.models: stored .*, now "
    ) as error:
        _check(path, {"evaluation": study.measuring("rso", 1, known)})
    assert "proxy" not in str(error.value)
    write_json(path, {"identity": {"evaluation": study.measuring("rso", 1, known)}})
    prompts.write_text('{"prompt": "another"}\n')
    with pytest.raises(ArtifactError, match=r"evaluation\.prompts\.content: stored .*, now "):
        _check(path, {"evaluation": study.measuring("rso", 1, known)})


def test_a_row_that_was_stopped_says_what_all_calls_took(tiny_model, tmp_path, monkeypatch):
    monkeypatch.chdir(ROOT)
    study = small(tiny_model, tmp_path, "rows={rso: {title: RSO}}", "sweeps={}", "tables={}", "seeds=[1]")
    path = study.config.root / "rows" / "rso" / "seed-1.json"
    path.parent.mkdir(parents=True)
    answers = [KeyboardInterrupt(), None]

    def build(config):
        error = answers.pop(0)
        if error:
            raise error

    monkeypatch.setattr(StudyRun, "_run", lambda self, plan: None)
    monkeypatch.setattr("rayflow.study.run.build_evaluation_plan", build)
    monkeypatch.setattr(
        "rayflow.study.run.result_of",
        lambda name, seed, plan, evaluation, seconds: result(name, seed, [0.5], seconds=seconds),
    )
    known = {"{preferences}": "unread", "{proxy}": tiny_model}
    with pytest.raises(KeyboardInterrupt):
        StudyRun(study, Console(quiet=True))._row("rso", 1, known)
    times = path.with_suffix(".seconds")
    assert 0 < read_json(times)["seconds"] < 100 and not path.exists()
    times.write_text('{"seconds": 1000.0}')
    assert StudyRun(study, Console(quiet=True))._row("rso", 1, known)
    assert 1000 < read_json(path)["seconds"] < 1100 and not times.exists()


def test_a_dry_run_checks_the_parts_and_tells_the_rows(tiny_model: str, tmp_path: Path) -> None:
    study, out = small(tiny_model, tmp_path / "runs"), io.StringIO()
    results = study.config.root / "rows" / "raft"
    results.mkdir(parents=True)
    (results / "seed-2.json").write_text("{}")
    dry_run(study, Console(file=out, width=150))
    lines = out.getvalue().splitlines()
    assert re.search(r"raft +RAFT +to do +done", out.getvalue()), out.getvalue()
    assert [line.split()[0] for line in lines[5:9]] == ["raft", "rso", "direct", "rso.gamma=0.05"]
    assert "1 of 8 rows done." in lines
    assert sorted(study.config.root.iterdir()) == [results.parent]  # nothing was started
    with pytest.raises(ModelError, match="no-such-model' does not exist"):
        dry_run(small("./no-such-model", tmp_path / "other"), Console(quiet=True))
