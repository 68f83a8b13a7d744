"""JSON files that are whole or not there, on disks that are full."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from rayflow.core.files import read_json, storage_error, sync, sync_tree, write_json
from rayflow.errors import ArtifactError


def test_a_full_disk_leaves_the_old_file_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "run.json"
    write_json(path, {"a": 1})
    monkeypatch.setattr("rayflow.core.files.secrets.token_hex", lambda n: "x")
    (tmp_path / ".run.json.x").symlink_to("/dev/full")  # refuses every byte as a full disk does
    with pytest.raises(ArtifactError, match=r"no room to write .*run.json .*[\s\S]*run again"):
        write_json(path, {"a": 2})
    assert read_json(path) == {"a": 1}
    assert [p.name for p in tmp_path.iterdir()] == ["run.json"]


def test_what_else_a_storage_refuses_is_said_in_its_words(tmp_path: Path) -> None:
    said = storage_error(OSError(errno.EROFS, "Read-only file system"), tmp_path)
    assert "cannot be written" in str(said) and "Read-only file system" in str(said)


def test_a_folder_is_synced_with_all_that_is_in_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "inner").mkdir()
    (tmp_path / "inner" / "weights").write_text("w")
    synced: list[str] = []
    monkeypatch.setattr(os, "fsync", lambda opened: synced.append(os.readlink(f"/proc/self/fd/{opened}")))
    sync_tree(tmp_path)
    assert synced[-1] == str(tmp_path)
    assert set(synced) == {str(p) for p in (tmp_path, tmp_path / "inner", tmp_path / "inner" / "weights")}


def test_only_what_a_file_system_cannot_do_for_folders_is_passed_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("")

    def refuse(code: int) -> None:
        monkeypatch.setattr(
            os, "fsync", lambda opened: (_ for _ in ()).throw(OSError(code, os.strerror(code)))
        )

    refuse(errno.EINVAL)
    sync(tmp_path)
    with pytest.raises(OSError, match="Invalid"):
        sync(tmp_path / "file")
    refuse(errno.EIO)
    with pytest.raises(OSError, match="Input/output"):
        sync(tmp_path)


@pytest.mark.parametrize("content", ["", "{", "[1]", "\x00"])
def test_half_a_file_is_an_error_that_names_it(tmp_path: Path, content: str) -> None:
    path = tmp_path / "stage.json"
    path.write_text(content)
    with pytest.raises(ArtifactError, match="stage.json cannot be read"):
        read_json(path)
