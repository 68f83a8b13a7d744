"""The table by itself: what a version holds, conflicts, markers, retention."""

from __future__ import annotations

import time
from pathlib import Path

import pyarrow as pa
import pytest
from rich.console import Console

from rayflow.config.refresh import RetentionOptions
from rayflow.errors import ArtifactError, BusyError, ConfigError
from rayflow.refresh import parts
from rayflow.refresh.lease import Lease
from rayflow.refresh.measure import measure
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


def test_copying_what_stays_keeps_no_file_of_another_day_open(
    table: PreferenceTable, monkeypatch: pytest.MonkeyPatch
) -> None:
    days = [f"2026-10-{day:02d}-1" for day in range(1, 13)]
    for i, day in enumerate(days):
        table.replace([f"{kind}{j}" for j in range(i) for kind in "ab"], [rows([f"a{i}", f"b{i}"], day)], day)
    most, begin = 0, parts.PartWriter._begin

    def counted(writer: parts.PartWriter, partition: parts.Partition) -> object:
        nonlocal most
        most = max(most, len(writer._open) + 1)
        return begin(writer, partition)

    monkeypatch.setattr(parts.PartWriter, "_begin", counted)
    last = table.replace([f"a{i}" for i in range(12)], [], "2026-11-01-1")
    assert held(table, last) == {f"a{i}": day for i, day in enumerate(days)}
    assert most == 1


def test_tokens_are_grouped_by_responses_also_where_fewer_are_scored() -> None:
    """A further draw that could not be scored is among the responses, and not among the rewards."""
    long = {"prompt_id": "a", "responses": ["x"] * 4, "num_tokens": [100] * 4, "rewards": [1.0, 0.0]}
    short = {"prompt_id": "b", "responses": ["x"] * 2, "num_tokens": [10] * 2, "rewards": [3.0, 4.0]}
    rest = {"pairs": [[0, 1]], "acceptance_rate": 0.5, "date": "2026-11-01", "policy": "p", "attempt": "1"}
    found = measure(pa.Table.from_pylist([{**long, **rest}, {**short, **rest}], SCHEMA).to_batches())
    assert found.tokens.value == pytest.approx(55)
    assert found.reward.value == pytest.approx(2.0)


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


def test_two_writers_of_one_attempt_share_no_file(table: PreferenceTable) -> None:
    """The first was suspended while it wrote, and wakes up after the second has committed."""
    asleep = parts.PartWriter(table.folder, "2026-11-01-1")
    asleep.write([rows(["a", "b"], "2026-11-01-1")])
    version = table.replace([], [rows(["a", "b"], "2026-11-01-1")], "2026-11-01-1")
    committed = {uri: Path(uri).read_bytes() for uri in table._open(version).file_uris()}
    asleep.write([rows(["c"], "2026-11-01-1")])
    (orphan,) = asleep.close()
    assert str(table.folder / orphan.path) not in committed
    assert {uri: Path(uri).read_bytes() for uri in committed} == committed
    assert held(table) == dict.fromkeys("ab", "2026-11-01-1")
    assert table.vacuum([version], grace_hours=1) == 0  # its writer may still be at it
    assert table.vacuum([version], grace_hours=0) == 1 and not (table.folder / orphan.path).exists()
    assert held(table) == dict.fromkeys("ab", "2026-11-01-1")


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
    left = {path.name for path in (nightly.root.attempts / f"{DAYS[0]}-1").iterdir()}
    assert left == {"plan.json", "done.json", "report.html", "summary.json"}
    assert (nightly.root.attempts / f"{DAYS[3]}-1" / "carried.txt").exists()
    # A version that was held back is kept while it is the newest, for the next refresh to carry over.
    bad = ("reward.function=tests.refresh.engines:gloomy", *settings)
    assert nightly.run(DAYS[4], *bad) == 3
    held_back = nightly.root.records()[-1].version
    assert len(nightly.rows(held_back)) == 20 and nightly.rows() == seen[fourth]


def test_a_held_back_version_whose_data_retention_removed_cannot_be_promoted(nightly: Nightly) -> None:
    from rayflow.refresh import commands

    quiet = Console(quiet=True)
    settings = ("refresh.retention={versions: 1, days: 0, grace_hours: 0}",)
    assert nightly.run(DAYS[0], *settings) == 0
    good = nightly.root.latest
    for day, temperature in ((DAYS[1], 0.8), (DAYS[2], 0.9)):
        bad = ("reward.function=tests.refresh.engines:gloomy", f"sample.temperature={temperature}")
        assert nightly.run(day, *bad, *settings) == 3
    older, newer = (record.version for record in nightly.root.records()[1:])
    with pytest.raises(
        ArtifactError, match=f"Version {older} cannot be promoted: retention removed its data"
    ):
        commands.promote(nightly.root.root, older, quiet)
    assert nightly.root.latest == good and nightly.root.day(DAYS[1]) is None
    with Lease(nightly.root.lease, 60).held("2026-11-04"), pytest.raises(BusyError, match="2026-11-04"):
        commands.promote(nightly.root.root, newer, quiet)
    commands.promote(nightly.root.root, newer, quiet)
    assert nightly.root.latest == newer and nightly.root.day(DAYS[2]) == newer and len(nightly.rows()) == 20
    with pytest.raises(ConfigError, match="cannot be promoted any more"):
        commands.promote(nightly.root.root, good, quiet)


def test_a_version_with_a_missing_file_cannot_be_promoted(nightly: Nightly) -> None:
    """Retention was killed between removing files and noting it."""
    from rayflow.refresh import commands

    assert nightly.run(DAYS[0], "refresh.gate.min_rows=100") == 3
    (record,) = nightly.root.records()
    next(nightly.root.table.rglob("*.parquet")).unlink()
    with pytest.raises(ArtifactError, match="retention removed its data"):
        commands.promote(nightly.root.root, record.version, Console(quiet=True))
    assert nightly.root.latest is None


def test_young_files_are_left_alone(nightly: Nightly) -> None:
    settings = ("refresh.retention={versions: 1, days: 0, grace_hours: 1}",)
    for number, day in enumerate(DAYS[:3]):
        nightly.write(range(number, 20 + number))
        nightly.run(day, *settings)
    began = time.time()
    assert all(record.removed is None for record in nightly.root.records())
    assert all(len(nightly.rows(record.version)) == 20 for record in nightly.root.records())
    assert time.time() - began < 60
