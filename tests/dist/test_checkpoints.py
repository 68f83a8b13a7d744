"""How workers' files become one checkpoint; that training goes on from it is in test_train."""

from __future__ import annotations

from pathlib import Path

from rayflow.dist.checkpoints import RayStore, _merge


def test_each_workers_files_are_moved_beside_the_others(tmp_path: Path) -> None:
    for rank in range(2):
        part = tmp_path / f"worker-{rank}" / "state"
        part.mkdir(parents=True)
        (part / f"rank-{rank}.pt").write_text(str(rank))
        _merge(part.parent, tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["state"]
    assert {path.name: path.read_text() for path in (tmp_path / "state").iterdir()} == {
        "rank-0.pt": "0",
        "rank-1.pt": "1",
    }


def test_what_was_not_reported_is_removed_and_nothing_else(tmp_path: Path) -> None:
    for name in ("checkpoint_step-00000002-aa", "checkpoint_step-00000004-bb", "other"):
        (tmp_path / name).mkdir()
    (tmp_path / "checkpoint_manager_snapshot.json").write_text("{}")  # Ray Train's own
    RayStore(tmp_path)._clear_strays({"checkpoint_step-00000002-aa"})
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "checkpoint_manager_snapshot.json",
        "checkpoint_step-00000002-aa",
        "other",
    ]
