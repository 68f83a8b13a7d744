"""How workers' files become one checkpoint; that training goes on from it is in test_train."""

from __future__ import annotations

import json
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


def test_a_list_that_was_cut_short_is_replaced_by_the_earlier_one(tmp_path: Path) -> None:
    store, listed = RayStore(tmp_path), tmp_path / "checkpoint_manager_snapshot.json"
    store.mend_list()  # nothing there
    (tmp_path / "checkpoint_step-00000002-aa11").mkdir()
    whole = json.dumps({"checkpoint_results": [{"checkpoint_dir_name": "checkpoint_step-00000002-aa11"}]})
    listed.write_text(whole)
    store.mend_list()
    assert listed.read_text() == whole
    store._keep_list()
    for broken in ("", whole[:30]):
        listed.write_text(broken)
        store._keep_list()  # of half a list no copy is made
        store.mend_list()
        assert json.loads(listed.read_text()) == json.loads(whole)
    (tmp_path / "checkpoint_step-00000002-aa11").rmdir()  # the earlier list names what is gone
    listed.write_text("")
    store.mend_list()
    assert not listed.exists()
