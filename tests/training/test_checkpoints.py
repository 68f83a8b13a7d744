"""Checkpoints that are damaged, or do not fit on the disk."""

from __future__ import annotations

import errno
import os
import shutil
from pathlib import Path

import pytest

from rayflow.errors import ArtifactError, StageError
from rayflow.training import checkpoints
from rayflow.training.checkpoints import (
    FolderStore,
    committed_folder,
    refuse_others,
    write_checksums,
    wrong_files,
)


def save(store: FolderStore, *steps: int) -> None:
    for step in steps:
        store.save(
            step, lambda path, step=step: (path / "state.pt").write_bytes(bytes([step] * 100)) and None
        )


def damage(store: FolderStore, step: int) -> None:
    path = store.folder / f"step-{step:08d}" / "state.pt"
    content = bytearray(path.read_bytes())
    content[50] ^= 1
    path.write_bytes(content)


def test_a_damaged_checkpoint_is_passed_over_for_the_one_before(tmp_path: Path) -> None:
    store = FolderStore(tmp_path / "checkpoints", keep=2)
    save(store, 2, 4)
    with store.newest() as folder:
        assert folder is not None and folder.name == "step-00000004"
    damage(store, 4)
    with pytest.warns(UserWarning, match=r"step-00000004 is damaged \(state.pt\)"), store.newest() as folder:
        assert folder is not None and folder.name == "step-00000002"
    damage(store, 2)
    with pytest.warns(UserWarning), store.newest() as folder:
        assert folder is None  # training starts anew rather than from garbage


def test_lists_of_checksums_notice_change_loss_and_their_own_damage(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"a")
    assert wrong_files(tmp_path) == ["1 of 1 lists of checksums"]  # nothing says that it is what was saved
    write_checksums(tmp_path)
    assert wrong_files(tmp_path) == []
    (tmp_path / "a").unlink()
    assert wrong_files(tmp_path) == ["a"]
    for broken in ("{", "3"):
        (tmp_path / "checksums.json").write_text(broken)
        assert wrong_files(tmp_path) == ["checksums.json"]


def test_every_worker_s_files_count_however_many_go_on(tmp_path: Path) -> None:
    """Two workers' folders, merged as Ray Train does."""
    for rank in range(2):
        own = tmp_path / str(rank)
        own.mkdir()
        (own / f"rank-{rank}.pt").write_bytes(bytes([rank]))
        if rank == 0:
            (own / "shape.json").write_text('{"num_workers": 2, "zero_stage": 1}')
        write_checksums(own, f"checksums-{rank:05d}.json")
        shutil.copytree(own, tmp_path / "merged", dirs_exist_ok=True)
    merged = tmp_path / "merged"
    assert wrong_files(merged) == []
    (merged / "rank-1.pt").write_bytes(b"other")
    assert wrong_files(merged) == ["rank-1.pt"]
    (merged / "checksums-00001.json").unlink()
    assert wrong_files(merged) == ["1 of 2 lists of checksums"]
    (merged / "shape.json").unlink()
    assert wrong_files(merged) == ["shape.json"]


def test_a_folder_is_on_the_disk_before_it_takes_its_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else the manifest that is written next may outlive the model that it commits."""
    done: list[str] = []
    fsync, replace = os.fsync, os.replace

    def noted_fsync(opened: int) -> None:
        done.append(Path(os.readlink(f"/proc/self/fd/{opened}")).name)
        fsync(opened)

    monkeypatch.setattr(os, "fsync", noted_fsync)
    monkeypatch.setattr(os, "replace", lambda *paths: (done.append("replace"), replace(*paths)))
    with committed_folder(tmp_path / "model") as partial:
        (partial / "weights").write_text("w")
        write_checksums(partial)
    assert sorted(done[:2]) == ["checksums.json", "weights"]
    assert done[2:] == ["model.partial", "replace", tmp_path.name]


def test_a_full_disk_is_a_sentence_and_leaves_the_old_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "model"
    with committed_folder(folder) as partial:
        (partial / "weights").write_text("old")
    with pytest.raises(ArtifactError, match="no room to write"), committed_folder(folder):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    # torch and safetensors raise errors of their own: then the disk is asked.
    with pytest.raises(RuntimeError, match="write failed"), committed_folder(folder):
        raise RuntimeError("PytorchStreamWriter: file write failed")
    monkeypatch.setattr(checkpoints, "_ROOM", 1 << 62)
    with pytest.raises(ArtifactError, match="no room to write"), committed_folder(folder):
        raise RuntimeError("PytorchStreamWriter: file write failed")
    assert [path.name for path in tmp_path.iterdir()] == ["model"]
    assert (folder / "weights").read_text() == "old"


def test_checkpoints_of_another_runner_are_not_passed_over(tmp_path: Path) -> None:
    refuse_others(tmp_path / "none", "step-*", "local")
    (tmp_path / "step-00000004").mkdir()
    refuse_others(tmp_path, "checkpoint_*", "ray")
    with pytest.raises(StageError, match="begun with compute.runner=local"):
        refuse_others(tmp_path, "step-*", "local")
