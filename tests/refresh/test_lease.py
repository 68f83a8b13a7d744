"""The lease: one holder, whoever races for it; the dead and the silent are not waited for."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from rayflow.errors import BusyError
from rayflow.refresh.folder import create_json
from rayflow.refresh.lease import Lease, is_gone, owner
from tests.refresh.conftest import DAYS, Nightly


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    path = tmp_path / "lease"
    path.mkdir()
    return path


def test_a_held_lease_is_refused_and_a_released_one_is_given(folder: Path) -> None:
    with Lease(folder, 60).held("2026-11-20"), pytest.raises(BusyError, match="2026-11-20.*process"):
        Lease(folder, 60).acquire("2026-11-20")
    Lease(folder, 60).acquire("2026-11-21")


def test_of_many_takers_exactly_one_gets_it(folder: Path) -> None:
    """Twenty threads, started together, ten times over."""
    for turn in range(10):
        barrier, won = threading.Barrier(20), []

        def take(turn: int = turn, barrier: threading.Barrier = barrier, won: list = won) -> None:
            lease = Lease(folder, 60)
            barrier.wait()
            try:
                lease.acquire(str(turn))
            except BusyError:
                return
            won.append(lease)

        threads = [threading.Thread(target=take) for _ in range(20)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(won) == 1
        won[0].release()


def elsewhere(generation: int, folder: Path, **changes: object) -> None:
    """A lease held on another machine, which nobody here can look at."""
    who = {**owner(), "host": "elsewhere", "boot": "another"}
    record = {"owner": who, "doing": "x", "acquired": 0.0, "expires": time.time() + 60, "released": False}
    assert create_json(folder / f"{generation:08d}.json", record | changes)


def test_a_silent_holder_elsewhere_is_waited_for_until_its_lease_runs_out(folder: Path) -> None:
    elsewhere(1, folder)
    with pytest.raises(BusyError, match="elsewhere.*silent for"):
        Lease(folder, 60).acquire("x")
    elsewhere(2, folder, expires=time.time() - 1)
    Lease(folder, 60).acquire("x")


def test_a_dead_process_of_this_machine_is_not_waited_for(folder: Path) -> None:
    code = "import json; from rayflow.refresh.lease import owner; print(json.dumps(owner()))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    dead = json.loads(done.stdout)
    assert is_gone(dead) and not is_gone(owner())
    assert is_gone({**owner(), "started": "1"})  # its number was given to another process
    assert not is_gone({**dead, "namespace": "pid:[1]"}) and not is_gone({**dead, "boot": "another"})
    elsewhere(1, folder, owner=dead)
    Lease(folder, 60).acquire("x")


def test_a_holder_that_was_given_up_notices_before_it_does_harm(folder: Path) -> None:
    lost = Lease(folder, 0.05)
    lost.acquire("x")
    time.sleep(0.1)
    with pytest.raises(BusyError, match="lost its lease"):
        lost.check()
    current = Lease(folder, 60)
    current.acquire("y")
    with pytest.raises(BusyError, match="lost its lease"):
        lost.renew()
    lost.release()
    current.check()


def test_a_heartbeat_keeps_the_lease(folder: Path) -> None:
    with Lease(folder, 0.4).held("x") as lease:
        for _ in range(10):
            time.sleep(0.1)
            lease.check()
            with pytest.raises(BusyError):
                Lease(folder, 0.4).acquire("y")


def test_of_two_processes_that_refresh_at_once_one_is_told_to_come_back(nightly: Nightly) -> None:
    text = nightly.path.read_text().replace("log:", "latency_seconds: 0.3\n    log:")
    nightly.path.write_text(text)
    command = [sys.executable, "-m", "rayflow.cli", "refresh", str(nightly.path), "--date", DAYS[0]]
    both = [
        subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) for _ in "ab"
    ]
    errors = [process.communicate(timeout=120)[1] for process in both]
    assert sorted(process.returncode for process in both) == [0, 75], errors
    assert any("Another" in error and "Traceback" not in error for error in errors)
    assert len(nightly.rows()) == 20 == len(nightly.asked()) and len(nightly.root.records()) == 1
    assert subprocess.run(command, capture_output=True, check=False).returncode == 0
