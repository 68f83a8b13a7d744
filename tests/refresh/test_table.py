"""The table by itself: what a version holds, conflicts, markers, retention."""

from __future__ import annotations

import time

import pyarrow as pa
import pytest

from rayflow.config.refresh import RetentionOptions
from rayflow.errors import ArtifactError, BusyError
from rayflow.refresh import parts
from rayflow.refresh.retention import DAY, versions_to_keep
from rayflow.refresh.rows import SCHEMA, lengths
from rayflow.refresh.table import PreferenceTable
from tests.refresh.conftest import DAYS, Nightly


def rows(ids: list[str], attempt: str) -> pa.Table:
    """Small rows with everything that the schema asks for."""
    row = {"responses": ["a", "b"], "rewards": [1.0, 0.0], "pairs": [[0, 1]], "content": "c", "policy": "p-1"}
    return pa.Table.from_pylist(
        [{"prompt_id": i, "date": attempt[:10], "attempt": attempt, **row} for i in ids], SCHEMA
    )


@pytest.fixture
def table(tmp_path) -> PreferenceTable:  # noqa: ANN001
    made = PreferenceTable(tmp_path / "table")
    made.create()
    made.create()
    return made


def held(table: PreferenceTable, version: int | None = None) -> dict[str, str]:
    chosen = table.head if version is None else version
    return {
        row["prompt_id"]: row["attempt"]
        for batch in table.batches(chosen, ["prompt_id", "attempt"])
        for row in batch.to_pylist()
    }


def test_a_version_holds_what_stays_and_what_comes_in_and_nothing_else(table: PreferenceTable) -> None:
    first = table.replace([], [rows(["a", "b", "c"], "2026-11-01-1")], "2026-11-01-1")
    second = table.replace(["a"], [rows(["b", "d"], "2026-11-02-1")], "2026-11-02-1")
    assert held(table, first) == dict.fromkeys("abc", "2026-11-01-1")
    assert held(table, second) == {"a": "2026-11-01-1", "b": "2026-11-02-1", "d": "2026-11-02-1"}
    assert table.num_rows(second) == 3
    assert (table.written("2026-11-01-1"), table.written("2026-11-02-1")) == (first, second)
    assert table.written("2026-11-03-1") is None
    folders = {path.parent.relative_to(table.folder).as_posix() for path in table.folder.rglob("*.parquet")}
    assert folders == {"date=2026-11-01/policy=p-1", "date=2026-11-02/policy=p-1"}


def test_files_are_bounded_and_those_without_a_change_are_not_touched(
    table: PreferenceTable, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(parts, "GROUP_ROWS", 4)
    monkeypatch.setattr(parts, "FILE_ROWS", 8)
    ids = [f"p{i:02d}" for i in range(50)]
    shards = [rows(ids[i : i + 3], "2026-11-01-1") for i in range(0, 50, 3)]
    table.replace([], shards, "2026-11-01-1")
    before = {path: path.stat().st_mtime_ns for path in table.folder.rglob("*.parquet")}
    assert len(before) >= 5 and sorted(held(table)) == ids
    table.replace(ids[1:], [rows(["new"], "2026-11-02-1")], "2026-11-02-1")
    assert sorted(held(table)) == sorted([*ids[1:], "new"])
    after = {path: path.stat().st_mtime_ns for path in table.folder.rglob("*.parquet")}
    assert before.items() <= after.items() and len(after) == len(before) + 2


def test_a_reader_of_a_version_does_not_notice_the_next_one(table: PreferenceTable) -> None:
    first = table.replace([], [rows([f"p{i}" for i in range(600)], "2026-11-01-1")], "2026-11-01-1")
    reading = table.batches(first, ["prompt_id"])
    seen = next(reading).column("prompt_id").to_pylist()
    table.replace(["p0"], [rows(["new"], "2026-11-02-1")], "2026-11-02-1")
    seen += [key for batch in reading for key in batch.column("prompt_id").to_pylist()]
    assert sorted(seen) == sorted(f"p{i}" for i in range(600))


def test_of_two_writers_that_start_from_one_version_the_second_is_refused(
    table: PreferenceTable, monkeypatch: pytest.MonkeyPatch
) -> None:
    table.replace([], [rows(["a"], "2026-11-01-1")], "2026-11-01-1")
    late = table._open()
    table.replace(["a"], [rows(["b"], "2026-11-02-1")], "2026-11-02-1")
    with monkeypatch.context() as patch:
        patch.setattr(PreferenceTable, "_open", lambda *_: late)
        with pytest.raises(BusyError, match="Another process wrote"):
            table.replace(["a"], [rows(["c"], "2026-11-02-2")], "2026-11-02-2")
    assert held(table) == {"a": "2026-11-01-1", "b": "2026-11-02-1"}


def test_what_is_not_a_table_is_an_error(tmp_path) -> None:  # noqa: ANN001
    with pytest.raises(ArtifactError, match="not a Delta table"):
        PreferenceTable(tmp_path / "none").head  # noqa: B018
    assert not PreferenceTable(tmp_path / "none").exists


def test_lengths_of_lists_in_lists_survive_slices() -> None:
    column = pa.chunked_array([pa.array([[[1], [2, 3]], [], [[4, 5, 6]], [[], [7]]])])
    assert lengths(column).to_pylist() == [[1, 2], [], [3], [0, 1]]
    assert lengths(column.slice(1)).to_pylist() == [[], [3], [0, 1]]
    assert lengths(column.slice(0, 0)).to_pylist() == []


def test_retention_keeps_the_newest_and_the_young() -> None:
    now = 100 * DAY
    promoted = {v: {"promoted": now - age * DAY} for v, age in ((1, 50), (2, 20), (4, 9), (5, 1))}
    assert versions_to_keep(promoted, RetentionOptions(versions=1, days=0), now) == {5}
    assert versions_to_keep(promoted, RetentionOptions(versions=3, days=0), now) == {2, 4, 5}
    assert versions_to_keep(promoted, RetentionOptions(versions=1, days=10), now) == {4, 5}


def test_old_versions_and_working_files_go_and_what_readers_need_stays(nightly: Nightly) -> None:
    settings = ("refresh.retention={versions: 2, days: 0, runs: 1, grace_hours: 0}",)
    seen = {}
    for number, day in enumerate(DAYS[:4]):
        nightly.write(range(2 * number, 20 + 2 * number))
        assert nightly.run(day, *settings) == 0
        seen[nightly.root.latest] = nightly.rows()
    first, second, third, fourth = seen
    assert [r.removed is None for r in nightly.root.records()] == [False, False, True, True]
    for version in (first, second):
        with pytest.raises(ArtifactError, match="retention removed"):
            nightly.rows(version)
    assert all(nightly.rows(version) == seen[version] for version in (third, fourth))
    attempts = sorted(path.parent.name for path in nightly.root.attempts.glob("*/run"))
    assert attempts == [f"{DAYS[3]}-1"]
    # A version that was held back is kept while it is the newest, for the next refresh to carry over.
    bad = ("reward.function=tests.refresh.engines:gloomy", *settings)
    assert nightly.run(DAYS[4], *bad) == 3
    held_back = nightly.root.records()[-1].version
    assert len(nightly.rows(held_back)) == 20 and nightly.rows() == seen[fourth]


def test_young_files_are_left_alone(nightly: Nightly) -> None:
    settings = ("refresh.retention={versions: 1, days: 0, grace_hours: 1}",)
    for number, day in enumerate(DAYS[:3]):
        nightly.write(range(number, 20 + number))
        nightly.run(day, *settings)
    began = time.time()
    assert all(record.removed is None for record in nightly.root.records())
    assert all(len(nightly.rows(record.version)) == 20 for record in nightly.root.records())
    assert time.time() - began < 60
