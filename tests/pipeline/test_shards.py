"""Shards commit one by one, once each, and their damage is noticed."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pyarrow as pa
import pytest

from rayflow.errors import ArtifactError
from rayflow.pipeline.shards import Shards


def table(*values: int) -> pa.Table:
    return pa.table({"prompt_id": [str(v) for v in values], "value": list(values)})


@pytest.fixture
def shards(tmp_path: Path) -> Shards:
    made = Shards(tmp_path / "02-sample" / "shards")
    made.folder.mkdir(parents=True)
    return made


def test_of_two_writers_of_a_shard_the_first_wins_and_nothing_is_left_over(shards: Shards) -> None:
    shards.write(0, table(1))
    shards.write(0, table(2))
    assert shards.read(0).column("value").to_pylist() == [1]
    assert len(list(shards.folder.iterdir())) == 2


def test_a_commit_whose_answer_the_storage_lost_stands(
    shards: Shards, monkeypatch: pytest.MonkeyPatch
) -> None:
    """NFS repeats a request that had no answer: the link is there, and the second one finds it in its way."""
    link = os.link

    def linked_twice(source: Path, target: Path) -> None:
        link(source, target)
        link(source, target)

    monkeypatch.setattr(os, "link", linked_twice)
    shards.write(0, table(1))
    assert shards.read(0).column("value").to_pylist() == [1]
    assert len(list(shards.folder.iterdir())) == 2


@pytest.mark.parametrize("damage", ["cut", "flip", "gone"])
def test_damage_is_an_error_that_names_the_file(shards: Shards, damage: str) -> None:
    shards.write(0, table(*range(1000)))
    path = shards.folder / shards.marker(0).file
    content = bytearray(path.read_bytes())
    if damage == "cut":
        path.write_bytes(content[: len(content) // 2])
    elif damage == "flip":
        content[len(content) // 4] ^= 0xFF
        path.write_bytes(content)
    else:
        path.unlink()
    with pytest.raises(ArtifactError, match=rf"{path.name}.*missing or damaged[\s\S]*--repair"):
        shards.read(0)


def test_a_marker_is_on_the_disk_before_it_counts(shards: Shards, monkeypatch: pytest.MonkeyPatch) -> None:
    synced, link = [], os.link
    sync = os.fsync
    monkeypatch.setattr(
        os, "fsync", lambda number: (synced.append(os.readlink(f"/proc/self/fd/{number}")), sync(number))
    )
    monkeypatch.setattr(os, "link", lambda source, target: (synced.append("link"), link(source, target)))
    shards.write(0, table(1))
    assert [Path(name).suffix for name in synced] == [".parquet", ".tmp", ""]


def test_an_empty_marker_names_the_remedy_for_its_run(shards: Shards, tmp_path: Path) -> None:
    (shards.folder / "00000.json").touch()
    remedy = re.escape(f"`rayflow verify {tmp_path} --repair`")
    with pytest.raises(ArtifactError, match=rf"00000\.json cannot be read[\s\S]*{remedy}"):
        shards.marker(0)
