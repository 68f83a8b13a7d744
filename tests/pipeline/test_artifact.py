"""A stage's folder: shards commit one by one, the manifest last, damage is noticed."""

from __future__ import annotations

import os
from pathlib import Path

import pyarrow as pa
import pytest

from rayflow.core.files import write_json
from rayflow.core.rows import Failure
from rayflow.errors import ArtifactError
from rayflow.pipeline.artifact import Artifact
from rayflow.pipeline.identity import differences, fingerprint


def shard(*values: int) -> pa.Table:
    return pa.table({"prompt_id": [str(v) for v in values], "value": list(values)})


@pytest.fixture
def artifact(tmp_path: Path) -> Artifact:
    made = Artifact(tmp_path / "02-sample")
    made.begin({"beta": 0.5}, num_shards=3)
    return made


def test_shards_commit_one_by_one(artifact: Artifact) -> None:
    assert artifact.name == "sample"
    assert artifact.pending_shards() == [0, 1, 2]
    artifact.write_shard(1, shard(3, 4), failures=[Failure(prompt_id="x", reason="why")], tokens=9)
    assert artifact.pending_shards() == [0, 2] and artifact.has_shard(1)
    assert artifact.read_shard(1, {"value"}).to_pydict() == {"value": [3, 4]}
    assert list(artifact.failures()) == [Failure(prompt_id="x", reason="why")]
    assert not artifact.committed
    with pytest.raises(ArtifactError, match="not finished"):
        artifact.manifest()


def test_of_two_writers_of_a_shard_the_first_wins_and_nothing_is_left_over(artifact: Artifact) -> None:
    artifact.write_shard(0, shard(1))
    artifact.write_shard(0, shard(2))
    assert artifact.read_shard(0).column("value").to_pylist() == [1]
    assert len(list(artifact.shards.iterdir())) == 2


def test_a_commit_whose_answer_the_storage_lost_stands(
    artifact: Artifact, monkeypatch: pytest.MonkeyPatch
) -> None:
    """NFS repeats a request that had no answer: the link is there, and the second one finds it in its way."""
    link = os.link

    def linked_twice(source: Path, target: Path) -> None:
        link(source, target)
        link(source, target)

    monkeypatch.setattr(os, "link", linked_twice)
    artifact.write_shard(0, shard(1))
    assert artifact.read_shard(0).column("value").to_pylist() == [1]
    assert len(list(artifact.shards.iterdir())) == 2


def test_commit_counts_and_clears_strays(artifact: Artifact) -> None:
    for index in range(3):
        artifact.write_shard(index, shard(index, index + 10), tokens=5)
    (artifact.shards / "00001-dead.parquet").write_bytes(b"half")
    manifest = artifact.commit(started=0.0, seconds=1.5, extra={"note": 1})
    assert (manifest.num_rows, manifest.num_tokens, manifest.num_failed) == (6, 15, 0)
    assert artifact.manifest() == manifest
    assert not (artifact.shards / "00001-dead.parquet").exists()


@pytest.mark.parametrize("damage", ["cut", "flip", "gone"])
def test_damage_is_an_error_that_names_the_file(artifact: Artifact, damage: str) -> None:
    artifact.write_shard(0, shard(*range(1000)))
    path = artifact.shards / artifact.marker(0).file
    content = bytearray(path.read_bytes())
    if damage == "cut":
        path.write_bytes(content[: len(content) // 2])
    elif damage == "flip":
        content[len(content) // 4] ^= 0xFF
        path.write_bytes(content)
    else:
        path.unlink()
    with pytest.raises(ArtifactError, match=rf"{path.name}.*missing or damaged[\s\S]*--repair"):
        artifact.read_shard(0)


def test_a_marker_is_on_the_disk_before_it_counts(
    artifact: Artifact, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced, link = [], os.link
    sync = os.fsync
    monkeypatch.setattr(
        os, "fsync", lambda number: (synced.append(os.readlink(f"/proc/self/fd/{number}")), sync(number))
    )
    monkeypatch.setattr(os, "link", lambda source, target: (synced.append("link"), link(source, target)))
    artifact.write_shard(0, shard(1))
    assert [Path(name).suffix for name in synced] == [".parquet", ".tmp", ""]


def test_an_empty_marker_names_the_remedy(artifact: Artifact) -> None:
    (artifact.shards / "00000.json").touch()
    with pytest.raises(ArtifactError, match=r"00000\.json cannot be read[\s\S]*--repair"):
        artifact.marker(0)


def test_another_format_is_refused(artifact: Artifact) -> None:
    write_json(artifact.folder / "manifest.json", {"format": 99})
    with pytest.raises(ArtifactError, match="has format 99, this version reads 2"):
        artifact.manifest()


def test_differences_name_every_field() -> None:
    stored = {"config": {"beta": 0.5, "k": 8}, "inputs": {"score": "a"}}
    wanted = {"config": {"beta": 0.2, "k": 8, "new": 1}, "inputs": {"score": "b"}}
    assert differences(stored, wanted) == [
        "config.beta: stored 0.5, now 0.2",
        "config.new: stored '(absent)', now 1",
        "inputs.score: stored 'a', now 'b'",
    ]
    assert fingerprint(stored) == fingerprint(dict(reversed(stored.items()))) != fingerprint(wanted)
