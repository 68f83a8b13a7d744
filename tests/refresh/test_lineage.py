"""Where a row of the table came from: told by the table and the versions' records, after its run is gone."""

from __future__ import annotations

import json

import pytest
from typer.testing import CliRunner

from rayflow.cli.app import app
from rayflow.errors import ArtifactError, ConfigError, DataError
from rayflow.refresh.folder import RefreshFolder
from rayflow.refresh.lineage import trace_row
from rayflow.refresh.recipe import recipe_of
from tests.refresh.conftest import DAYS, Nightly

NO_RUNS = "refresh.retention={runs: 0, grace_hours: 0}"


def a_pair(nightly: Nightly) -> tuple[dict, int, int]:
    row = next(row for row in nightly.rows() if row["pairs"])
    return row, *row["pairs"][0]


def test_a_pair_is_told_with_the_settings_that_made_it_though_its_run_is_gone(nightly: Nightly) -> None:
    assert nightly.run(DAYS[0], NO_RUNS) == 0
    assert nightly.run(DAYS[1], NO_RUNS, "select.beta=0.2") == 0
    nightly.write(range(21))
    assert nightly.run(DAYS[2], NO_RUNS, "select.beta=0.2") == 0
    assert not list(nightly.root.attempts.glob("*/run"))
    row, chosen, rejected = a_pair(nightly)
    found = trace_row(nightly.root.root, None, f"{row['prompt_id']}/{chosen}>{rejected}")
    assert found["table"] == {
        "name": "nightly",
        "version": nightly.root.latest,
        "date": DAYS[1],
        "attempt": f"{DAYS[1]}-1",
    }
    assert (found["seed"], found["prompt"]["prompt"]) == (row["seed"], row["prompt"])
    assert found["pair"]["margin"] == row["margins"][0]
    told = found["candidates"][str(chosen)]
    assert (told["reward"], told["response"]) == (row["rewards"][chosen], row["responses"][chosen])
    assert told["num_tokens"] == row["num_tokens"][chosen] and told["accepted_as"] is not None
    made_from = {name: stage["made_from"] for name, stage in found["stages"].items()}
    assert made_from["policy"]["model"] == "fake"
    text = json.dumps(made_from)
    assert (
        '"beta": 0.2' in text
        and "cheerful" in text
        and "CountingEngine" in text
        and '"max_tokens": 40' in text
    )
    first = min(nightly.root.promoted())
    assert '"beta": 0.1' in json.dumps(trace_row(nightly.root.root, first, row["prompt_id"])["stages"])


def test_the_settings_of_a_record_are_those_of_its_fingerprints(refreshed: Nightly) -> None:
    record = refreshed.root.record(refreshed.root.latest)
    assert recipe_of(record.settings).to_dict() == record.recipe
    assert {key: refreshed.rows()[0][key] for key in record.recipe} == record.recipe


def test_a_record_of_before_there_were_settings_is_read(refreshed: Nightly) -> None:
    (path,) = refreshed.root.versions.iterdir()
    stored = json.loads(path.read_text())
    path.write_text(json.dumps({key: value for key, value in stored.items() if key != "settings"}))
    row, *_ = a_pair(refreshed)
    found = trace_row(refreshed.root.root, None, row["prompt_id"])
    assert {name: stage["fingerprint"] for name, stage in found["stages"].items()} == stored["recipe"]
    assert all(stage["made_from"] == {} for stage in found["stages"].values())


def test_the_command_tells_runs_and_tables_apart(refreshed: Nightly) -> None:
    row, chosen, rejected = a_pair(refreshed)
    for folder in (refreshed.root.root, refreshed.root.table):
        done = CliRunner().invoke(app, ["lineage", str(folder), f"{row['prompt_id']}/{chosen}>{rejected}"])
        assert done.exit_code == 0, done.output
        assert f"in version {refreshed.root.latest} of table nightly, computed by {DAYS[0]}-1" in done.output
        assert "cheerful" in done.output
    (run,) = (refreshed.root.attempts).glob("*/run")
    assert f"in run {run.name}" in CliRunner().invoke(app, ["lineage", str(run), row["prompt_id"]]).output
    with pytest.raises(ConfigError, match="only those have versions"):
        CliRunner().invoke(
            app, ["lineage", str(run), row["prompt_id"], "--version", "1"], catch_exceptions=False
        )


def test_mistakes_are_sentences(nightly: Nightly) -> None:
    assert nightly.run(DAYS[0], "refresh.gate.min_rows=100") == 3
    with pytest.raises(ConfigError, match="no promoted version yet; name one with --version"):
        trace_row(nightly.root.root, None, "x")
    (record,) = nightly.root.records()
    with pytest.raises(DataError, match=f"Version {record.version} of .* has no prompt 'x'"):
        trace_row(nightly.root.root, record.version, "x")
    with pytest.raises(ArtifactError, match="has no version 99"):
        trace_row(nightly.root.root, 99, "x")
    assert not RefreshFolder.is_one(nightly.folder)


def test_what_was_written_before_a_change_is_recorded_as_it_was_made(
    nightly: Nightly, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed between writing and judging, and gone on with under another reward."""
    with monkeypatch.context() as patch:
        patch.setattr("rayflow.refresh.execute.examine", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            nightly.run(DAYS[0])
    assert nightly.run(DAYS[0], "reward.function=tests.pipeline.conftest:raises") == 0
    (record,) = nightly.root.records()
    assert {row["reward"] for row in nightly.rows()} == {record.recipe["reward"]}
    assert recipe_of(record.settings).to_dict() == record.recipe
