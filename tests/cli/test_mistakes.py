"""What a person gets for a path that cannot be used: a sentence, never a traceback."""

from __future__ import annotations

import errno
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from rayflow.cli.mistakes import sentence_of
from rayflow.cli.options import refuse_folder
from rayflow.errors import ArtifactError, JobError
from tests.pipeline.conftest import config, prompt_file, settings  # noqa: F401
from tests.test_cli import finished, rayflow  # noqa: F401


def said(*arguments: object, **environment: str) -> tuple[int, str]:
    """The exit code of the command itself, in a process of its own, and what it says of its mistake."""
    done = subprocess.run(
        [sys.executable, "-m", "rayflow", *map(str, arguments)],
        capture_output=True,
        text=True,
        env={**os.environ, **environment},
    )
    assert "Traceback" not in done.stderr
    return done.returncode, done.stderr or done.stdout


def test_a_path_that_cannot_be_used_is_a_sentence(finished: Path, tmp_path: Path) -> None:  # noqa: F811
    file = tmp_path / "empty.yaml"
    file.touch()
    folder_needed = f"Error: {file} is a file, and a folder is needed there."
    for arguments in (
        ("export", finished, "--output", file / "x.jsonl"),
        ("cluster", "render", "--gpus", 1, "--output", file),
    ):
        code, told = said(*arguments)
        assert code == 1 and told.startswith(folder_needed)
    (finished / "report.html").mkdir()
    code, told = said("report", finished)
    assert code == 1 and f"{finished / 'report.html'} is a folder, and a file is needed there." in told


@pytest.mark.parametrize(
    ("error", "sentence"),
    [
        (FileNotFoundError(errno.ENOENT, "No such file", "a/b"), "a/b does not exist."),
        (
            PermissionError(errno.EACCES, "Permission denied", "a"),
            r"a cannot be read or written \(Permission",
        ),
        (FileExistsError(errno.EEXIST, "File exists", "a"), "a exists already."),
        (IsADirectoryError(errno.EISDIR, "Is a directory", ".a.x", None, "a"), "^a is a folder"),
        (OSError(errno.ENOSPC, "No space left", "a"), "There is no room to write a"),
    ],
)
def test_the_system_s_refusals_have_sentences(error: OSError, sentence: str) -> None:
    assert re.search(sentence, sentence_of(error))


def test_an_error_that_is_about_no_path_keeps_its_traceback() -> None:
    assert sentence_of(OSError(errno.EIO, "Input/output error")) is None


def test_a_terminal_without_our_signs_ends_no_command(finished: Path) -> None:  # noqa: F811
    assert said("verify", finished, PYTHONIOENCODING="ascii")[0] == 0


def test_a_folder_that_is_no_run_is_told_what_it_is(finished: Path, tmp_path: Path) -> None:  # noqa: F811
    near = finished.with_name("smal")
    with pytest.raises(ArtifactError, match=f"{near} does not exist. Did you mean {finished}"):
        rayflow("report", near)
    with pytest.raises(ArtifactError, match=f"it holds some, such as {finished}"):
        rayflow("report", finished.parent)
    with pytest.raises(ArtifactError, match="is a file: give the folder"):
        rayflow("verify", finished / "config.yaml")
    (tmp_path / "nightly").mkdir()
    (tmp_path / "nightly" / "refresh.json").touch()
    with pytest.raises(ArtifactError, match="`rayflow table .*nightly` shows it"):
        rayflow("verify", tmp_path / "nightly")
    with pytest.raises(JobError, match=f"`rayflow report {finished}` shows a run"):
        rayflow("status", finished)
    with pytest.raises(ArtifactError, match="study.json does not exist. Give the study's YAML"):
        rayflow("study", "report", tmp_path)


def test_a_plain_name_is_a_jobs_although_a_folder_is_called_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "quickstart").mkdir()
    monkeypatch.chdir(tmp_path)
    assert refuse_folder("quickstart") == "quickstart"
    with pytest.raises(JobError):
        refuse_folder("./quickstart")


def test_help_shows_flags_as_flags() -> None:
    told = rayflow("run", "--help")
    assert "--dry-run" in told and "--no-dry-run" not in told and told.count("<bool>") == 1  # --help's own
