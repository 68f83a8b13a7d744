"""A stage's folder: shards are counted down, the manifest comes last, another format is refused."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pytest

from rayflow.core.files import write_json
from rayflow.core.rows import Failure
from rayflow.errors import ArtifactError
from rayflow.pipeline.artifact import Artifact
from rayflow.pipeline.share import share


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
    artifact.shards.write(1, shard(3, 4), failures=[Failure(prompt_id="x", reason="why")], tokens=9)
    assert artifact.pending_shards() == [0, 2] and artifact.shards.has(1)
    assert artifact.shards.read(1, {"value"}).to_pydict() == {"value": [3, 4]}
    assert list(artifact.shards.failures()) == [Failure(prompt_id="x", reason="why")]
    assert not artifact.committed
    with pytest.raises(ArtifactError, match="not finished"):
        artifact.manifest()


def test_commit_counts_and_clears_strays(artifact: Artifact) -> None:
    for index in range(3):
        artifact.shards.write(index, shard(index, index + 10), tokens=5)
    (artifact.shards.folder / "00001-dead.parquet").write_bytes(b"half")
    manifest = artifact.commit(started=0.0, seconds=1.5, extra={"note": 1})
    assert (manifest.num_rows, manifest.num_tokens, manifest.num_failed) == (6, 15, 0)
    assert artifact.manifest() == manifest
    assert not (artifact.shards.folder / "00001-dead.parquet").exists()


def test_another_format_is_refused(artifact: Artifact) -> None:
    write_json(artifact.folder / "manifest.json", {"format": 99})
    with pytest.raises(ArtifactError, match="has format 99, this version reads 2"):
        artifact.manifest()


def test_a_stage_that_is_committed_again_leaves_the_run_that_shares_its_files_alone(
    artifact: Artifact, tmp_path: Path
) -> None:
    (artifact.folder.parent / "run.json").write_text("{}")
    for index in range(3):
        failures = [Failure(prompt_id="x", reason="why")] if index == 0 else []
        artifact.shards.write(index, shard(index), failures=failures)
    artifact.commit(started=0.0, seconds=1.0)
    other = Artifact(tmp_path / "other" / "02-sample")
    share(artifact, other)
    log, kept = (each.folder / "failures.jsonl" for each in (artifact, other))
    assert log.stat().st_ino == kept.stat().st_ino
    artifact.forget([0])
    artifact.shards.write(0, shard(0))
    artifact.commit(started=0.0, seconds=1.0)
    assert not log.exists() and "why" in kept.read_text()
    artifact.forget([1])
    artifact.shards.write(1, shard(1), failures=[Failure(prompt_id="y", reason="another")])
    artifact.commit(started=0.0, seconds=1.0)
    assert "another" in log.read_text() and "another" not in kept.read_text()
