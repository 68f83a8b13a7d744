"""One process works in a run's folder; the lock of a killed one is no obstacle; another machine's is seen."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from rayflow.errors import ArtifactError
from rayflow.pipeline.lock import folder_lock

HOLDS = """
import os, sys, time
from pathlib import Path
from rayflow.pipeline.lock import folder_lock
with folder_lock(Path(sys.argv[1])):
    if len(sys.argv) > 2 and os.fork() == 0:  # a child that outlives its parent, and has its files
        time.sleep(float(sys.argv[2]))
        os._exit(0)
    print("held", flush=True)
    time.sleep(60)
"""


def holder(folder: Path, *more: str) -> subprocess.Popen[str]:
    """A process that holds the lock."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLDS, str(folder), *more], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout.readline() == "held\n"
    return process


def test_the_owner_is_named_by_machine_process_and_time(tmp_path: Path) -> None:
    process = holder(tmp_path)
    try:
        with pytest.raises(ArtifactError) as caught, folder_lock(tmp_path):
            pass
        said = str(caught.value)
        assert f"process {process.pid} of " in said and f"on {os.uname().nodename}, since 20" in said
    finally:
        process.kill()
        process.wait()


def test_the_lock_of_a_killed_process_is_taken_at_once(tmp_path: Path) -> None:
    process = holder(tmp_path)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert json.loads((tmp_path / ".lock").read_text())["pid"] == process.pid
    begin = time.monotonic()
    with folder_lock(tmp_path):
        assert json.loads((tmp_path / ".lock").read_text())["pid"] == os.getpid()
    assert time.monotonic() - begin < 1


def test_what_a_killed_process_leaves_running_is_waited_for(tmp_path: Path) -> None:
    process = holder(tmp_path, "1.5")
    process.send_signal(signal.SIGKILL)
    process.wait()
    begin = time.monotonic()
    with folder_lock(tmp_path):
        assert time.monotonic() - begin > 0.5


def test_an_orderly_end_leaves_no_record(tmp_path: Path) -> None:
    with folder_lock(tmp_path, beat_s=0.01):
        time.sleep(0.1)
        assert json.loads((tmp_path / ".lock").read_text())["beat"] > 1
    assert list(json.loads((tmp_path / ".lock").read_text())) == ["released"]
    begin = time.monotonic()
    with folder_lock(tmp_path):
        assert time.monotonic() - begin < 1


def test_a_reader_never_finds_the_record_empty(tmp_path: Path) -> None:
    with folder_lock(tmp_path, beat_s=0.0001):
        until = time.monotonic() + 0.5
        while time.monotonic() < until:
            assert json.loads((tmp_path / ".lock").read_text())["pid"] == os.getpid()


def elsewhere(beat: int) -> str:
    """The record of a process that this machine's kernel knows nothing of."""
    who = {"machine": "another", "host": "node-7", "pid": 1, "user": "ann", "since": 1.7e9, "beat": beat}
    return json.dumps(who)


def test_a_record_of_another_machine_that_changes_is_respected(tmp_path: Path) -> None:
    lock, stop = tmp_path / ".lock", threading.Event()

    def live() -> None:
        beat = 0
        while not stop.wait(0.05):
            lock.write_text(elsewhere(beat := beat + 1))

    lock.write_text(elsewhere(0))
    thread = threading.Thread(target=live)
    thread.start()
    try:
        with pytest.raises(ArtifactError, match="Another process is working"), folder_lock(tmp_path, 0.2):
            pass
    finally:
        stop.set()
        thread.join()


def test_an_empty_record_may_be_another_machine_s_that_has_just_been_made(tmp_path: Path) -> None:
    (tmp_path / ".lock").write_text("")
    writer = threading.Timer(0.1, lambda: (tmp_path / ".lock").write_text(elsewhere(1)))
    writer.start()
    with pytest.raises(ArtifactError, match="on node-7"), folder_lock(tmp_path, beat_s=0.2):
        pass
    writer.join()


def test_a_record_of_another_machine_that_stands_still_is_taken_over(tmp_path: Path) -> None:
    (tmp_path / ".lock").write_text(elsewhere(5))
    begin = time.monotonic()
    with folder_lock(tmp_path, beat_s=0.1):
        assert json.loads((tmp_path / ".lock").read_text())["pid"] == os.getpid()
    assert time.monotonic() - begin >= 0.3


def test_of_two_machines_that_take_over_at_once_the_later_writer_has_the_folder(tmp_path: Path) -> None:
    """On storage whose flock is each machine's own."""
    lock = tmp_path / ".lock"
    lock.write_text(elsewhere(5))
    heir = threading.Timer(0.35, lambda: lock.write_text(elsewhere(0)))  # we have written at 0.3
    heir.start()
    with pytest.raises(ArtifactError, match="on node-7"), folder_lock(tmp_path, beat_s=0.1):
        pass
    heir.join()
    assert lock.read_text() == elsewhere(0)
