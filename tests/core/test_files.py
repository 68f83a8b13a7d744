"""JSON files that are whole or not there, on disks that are full."""

from __future__ import annotations

import errno
from pathlib import Path

import pytest

from rayflow.core.files import read_json, storage_error, write_json
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


@pytest.mark.parametrize("content", ["", "{", "[1]", "\x00"])
def test_half_a_file_is_an_error_that_names_it(tmp_path: Path, content: str) -> None:
    path = tmp_path / "stage.json"
    path.write_text(content)
    with pytest.raises(ArtifactError, match="stage.json cannot be read"):
        read_json(path)
