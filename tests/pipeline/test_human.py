"""Human side-by-side: what raters get says nothing of whose it is, and their answers come back to the systems."""

from __future__ import annotations

import csv
import io
import json
import re

import pytest
from typer.testing import CliRunner

from rayflow.cli.app import app
from rayflow.errors import ArtifactError, ConfigError, DataError
from rayflow.pipeline.human import export_human
from rayflow.pipeline.human_answers import import_human
from rayflow.report.human import INSTRUCTIONS
from tests.pipeline.evaluation_helpers import NUM_PROMPTS, evaluated, evaluation_settings


@pytest.fixture(scope="module")
def folders(tmp_path_factory, tiny_model):
    """Two evaluations on the same prompts by fake policies, beside the targets."""
    made = []
    for name, seed in (("quick-fox", 3), ("lazy-dog", 4)):
        settings = evaluation_settings(tmp_path_factory.mktemp("human"), tiny_model, "fake-policy")
        settings |= {"name": name, "seed": seed, "kl": None, "side_by_side": None, "baseline": "target"}
        settings["sample"] = {"engine": {"kind": "fake"}, "num_candidates": 4, "max_tokens": 60}
        made.append(evaluated(settings)[0].config.root)
    return made


@pytest.fixture
def exported(folders, tmp_path):
    export_human(folders, 6, tmp_path / "out", INSTRUCTIONS, seed=0)
    return tmp_path / "out"


def answers(folder, rater, say):
    """A file as the page saves it; `say` gives (quality by system, best system or None) for each task."""
    key = json.loads((folder / "key.json").read_text())
    said = []
    for name, task in key["tasks"].items():
        quality, best = say(name)
        order = task["order"]
        letter = "none" if best is None else "ABC"[order.index(best)]
        said.append({"task": name, "quality": [quality[i] for i in order], "best": letter, "comment": ""})
    return {"format": 1, "export": key["export"], "rater": rater, "saved": "now", "answers": said}


def test_raters_get_tasks_in_another_order_and_nothing_that_tells_whose_they_are(exported, folders):
    key = json.loads((exported / "key.json").read_text())
    assert key["systems"] == ["baseline", "quick-fox", "lazy-dog"] and len(key["tasks"]) == 6
    assert len({tuple(task["order"]) for task in key["tasks"].values()}) > 1
    shared = list((exported / "raters").iterdir())
    assert sorted(path.name for path in shared) == ["rating.html", "tasks.csv"]
    secrets = {"quick-fox", "lazy-dog", "baseline", "fake-policy", str(folders[0])}
    secrets |= {task["prompt_id"] for task in key["tasks"].values()}
    for path in shared:
        assert [secret for secret in secrets if secret in path.read_text()] == []


def test_the_table_and_the_page_show_the_same_responses(exported):
    rows = list(csv.DictReader(io.StringIO((exported / "raters" / "tasks.csv").read_text(), newline="")))
    assert [row["task_id"] for row in rows] == [f"t{i:03d}" for i in range(1, 7)]
    page = (exported / "raters" / "rating.html").read_text()
    for row in rows:
        for letter in "abc":
            assert row[f"response_{letter}"] in page
    assert page.count('class="rated"') == 18 and page.count('data-kind="quality"') == 90


def test_the_key_says_whose_each_response_is(exported, folders):
    from rayflow.pipeline.stored import open_any

    key = json.loads((exported / "key.json").read_text())
    table = io.StringIO((exported / "raters" / "tasks.csv").read_text(), newline="")
    rows = {row["task_id"]: row for row in csv.DictReader(table)}
    for system, (folder, stage) in enumerate(
        [(folders[0], "baseline-encode"), (folders[0], "policy-sample"), (folders[1], "policy-sample")]
    ):
        artifact = open_any(folder).artifacts[stage]
        stored = [row for i in range(artifact.num_shards) for row in artifact.shards.read(i).to_pylist()]
        said = {row["prompt_id"]: row["responses"][0] for row in stored}
        for name, task in key["tasks"].items():
            letter = "abc"[task["order"].index(system)]
            assert rows[name][f"response_{letter}"] == said[task["prompt_id"]]


def test_answers_come_back_to_the_systems_whatever_the_order(exported):
    def good_fox(name):
        return (1, 5, 3), 1

    for rater in ("ann", "ben"):
        (exported / f"answers-{rater}.json").write_text(json.dumps(answers(exported, rater, good_fox)))
    result, page = import_human(exported, [])
    assert [system.quality.mean for system in result.systems] == [1, 5, 3]
    assert [system.majority for system in result.systems] == [0, 1, 0]
    assert result.quality_agreement == 1 and (result.num_raters, result.num_ratings) == (2, 12)
    summary = json.loads((exported / "summary.json").read_text())
    assert summary["systems"][1]["name"] == "quick-fox" and summary["files"] == [
        "answers-ann.json",
        "answers-ben.json",
    ]
    assert summary["best_agreement"] is None  # nothing varies
    assert "quick-fox" in page.read_text()
    lines = (exported / "ratings.jsonl").read_text().splitlines()
    assert json.loads(lines[0]) == {"rater": "ann", "task": "t001", "quality": [1, 5, 3], "best": 1}


def test_a_crowd_platforms_table_gives_the_same_result(exported):
    data = answers(exported, "ann", lambda name: ((2, 4, 4), None if name == "t001" else 2))
    own, _ = import_human(exported, [_saved(exported, "a.json", data)])
    sink = io.StringIO()
    writer = csv.writer(sink)
    writer.writerow(
        [
            "WorkerId",
            "Input.task_id",
            "Answer.quality_a",
            "Answer.quality_b",
            "Answer.quality_c",
            "Answer.best",
            "X",
        ]
    )
    for a in data["answers"]:
        best = "No preference" if a["best"] == "none" else a["best"].lower()
        writer.writerow(["ann", a["task"], *a["quality"], best, "some\nthing"])
    table = exported / "batch.csv"
    table.write_text("\ufeff" + sink.getvalue())
    assert repr(import_human(exported, [table])[0]) == repr(own)  # one rater's agreement is no number


def _saved(folder, name, data):
    path = folder / name
    path.write_text(json.dumps(data))
    return path


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda d: d | {"export": "f" * 16}, "answers other tasks"),
        (lambda d: d | {"rater": " "}, "answer 1: the rater's name is empty"),
        (lambda d: d | {"answers": [{**d["answers"][0], "quality": [6, 1, 1]}]}, "quality 6 is not one of"),
        (lambda d: d | {"answers": [{**d["answers"][0], "quality": [1, 1]}]}, "2 qualities for 3 responses"),
        (
            lambda d: d | {"answers": [{**d["answers"][0], "best": "D"}]},
            "best 'D' is neither A, B, C nor none",
        ),
        (
            lambda d: d | {"answers": [{**d["answers"][0], "task": "t999"}]},
            "'t999' is no task of this export",
        ),
        (lambda d: d | {"answers": [d["answers"][0]] * 2}, "rater 'ann' has rated t001 before"),
        (lambda d: d | {"answers": [{"task": "t001"}]}, "not a file that the rating page saved"),
        (lambda d: [], "not a file that the rating page saved"),
    ],
)
def test_a_file_that_does_not_fit_is_refused_with_its_place(exported, change, message):
    data = change(answers(exported, "ann", lambda name: ((1, 2, 3), 0)))
    with pytest.raises(DataError, match=re.escape(message)):
        import_human(exported, [_saved(exported, "x.json", data)])


def test_a_file_that_is_not_there_or_holds_only_a_heading_is_named(exported, tmp_path):
    with pytest.raises(DataError, match=r"nofile.json does not exist. Name the files") as error:
        import_human(exported, [tmp_path / "nofile.json"])
    assert "Errno" not in str(error.value)
    heading = tmp_path / "heading.csv"
    heading.write_text("task_id,rater,quality_a,quality_b,quality_c,best\n")
    with pytest.raises(DataError, match=r"No ratings in .*heading.csv: name files"):
        import_human(exported, [heading])


def test_a_name_with_a_space_behind_it_is_no_other_rater(exported):
    said = answers(exported, "ann", lambda name: ((1, 2, 3), 0))
    files = [_saved(exported, f"{i}.json", said | {"rater": name}) for i, name in enumerate(("ann", "ann "))]
    with pytest.raises(DataError, match="has rated t001 before"):
        import_human(exported, files)


def test_what_cannot_be_exported_or_imported_is_said(folders, exported, tmp_path):
    with pytest.raises(ArtifactError, match="is not empty"):
        export_human(folders, 5, exported, INSTRUCTIONS, seed=0)
    with pytest.raises(ConfigError, match="same name"):
        export_human([folders[0], folders[0]], 5, tmp_path / "twice", INSTRUCTIONS, seed=0)
    with pytest.raises(DataError, match="No answers in"):
        import_human(exported, [])
    with pytest.raises(ArtifactError, match="has no key.json"):
        import_human(tmp_path, [])
    (exported / "cut.json").write_text('{"answers": [')
    with pytest.raises(DataError, match="cut.json cannot be read as answers"):
        import_human(exported, [exported / "cut.json"])
    (exported / "bare.csv").write_text("task_id,rater\n")
    with pytest.raises(DataError, match="has no column 'best'"):
        import_human(exported, [exported / "bare.csv"])


def test_the_commands_do_it_from_folder_to_table(folders, tmp_path):
    out = tmp_path / "rating"
    done = CliRunner().invoke(app, ["human", "export", str(folders[0]), "--num", "50", "--output", str(out)])
    assert done.exit_code == 0, done.output
    assert f"{NUM_PROMPTS} tasks" in done.output
    (out / "answers-ann.json").write_text(json.dumps(answers(out, "ann", lambda name: ((1, 4), 1))))
    done = CliRunner().invoke(app, ["human", "import", str(out)])
    assert done.exit_code == 0, done.output
    assert "quick-fox" in done.output and "4.00" in done.output and "Krippendorff" in done.output
