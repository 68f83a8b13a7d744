"""The lease: one holder, whoever races for it; the dead and the silent are not waited for."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
import types
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from rayflow.core.files import read_json, write_json
from rayflow.errors import ArtifactError, BusyError, LeaseError
from rayflow.refresh import lease as lease_module
from rayflow.refresh.folder import RefreshFolder, create_json
from rayflow.refresh.lease import Lease, is_gone, owner
from rayflow.refresh.table import PreferenceTable
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


def test_a_holder_of_which_nothing_is_known_is_watched_and_waited_out(folder: Path) -> None:
    """What a machine had that was started anew: nobody renews it, and the same call goes on with its work."""
    said: list[str] = []
    elsewhere(1, folder, expires=time.time() + 1.0)
    Lease(folder, 2).acquire("x", said.append)
    assert len(said) == 1 and "elsewhere holds this table (x)" in said[0]


def test_a_watched_holder_that_gives_a_sign_of_life_is_left_alone(folder: Path) -> None:
    elsewhere(1, folder)
    path = folder / "00000001.json"
    renewed = threading.Timer(0.3, lambda: write_json(path, read_json(path) | {"expires": time.time() + 60}))
    renewed.start()
    begin = time.monotonic()
    with pytest.raises(BusyError, match="elsewhere"):
        Lease(folder, 2).acquire("x", lambda _: None)
    assert time.monotonic() - begin < 30


def test_a_holder_that_is_known_to_run_is_not_watched(folder: Path) -> None:
    said: list[str] = []
    with Lease(folder, 60).held("x"), pytest.raises(BusyError):
        Lease(folder, 60).acquire("y", said.append)
    assert said == []


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
    current = Lease(folder, 60)
    elsewhere(2, folder)
    for call in (lost.check, lost.renew):
        with pytest.raises(LeaseError, match="another one has taken over") as caught:
            call()
        assert caught.value.exit_code == 1, "not 75, which schedulers take for a good end of the night"
    lost.release()
    with pytest.raises(BusyError):
        current.acquire("y")


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[float]]:
    """Seconds by which the clock that leases go by has jumped."""
    jumped = [0.0]
    jumping = types.SimpleNamespace(time=lambda: time.time() + jumped[0])
    monkeypatch.setattr(lease_module, "time", jumping)
    yield jumped


def test_a_holder_whose_clock_jumped_goes_on_unless_somebody_took_over(
    folder: Path, clock: list[float]
) -> None:
    held = Lease(folder, 60)
    held.acquire("x")
    clock[0] += 3600
    held.check()
    assert sorted(path.name for path in folder.iterdir()) == ["00000001.json", "00000002.json"]
    with pytest.raises(BusyError):
        Lease(folder, 60).acquire("y")
    held.renew()
    clock[0] += 3600
    Lease(folder, 60).acquire("y")
    with pytest.raises(LeaseError):
        held.check()


def test_of_the_holder_and_others_that_want_a_lease_that_ran_out_one_gets_it(
    folder: Path, clock: list[float]
) -> None:
    for turn in range(10):
        held = Lease(folder, 60)
        held.acquire("x")
        clock[0] += 3600
        barrier, won = threading.Barrier(8), []

        def take(one: Lease, own: bool, barrier: threading.Barrier = barrier, won: list = won) -> None:
            barrier.wait()
            try:
                one.check() if own else one.acquire("y")
            except (BusyError, LeaseError):
                return
            won.append(one)

        threads = [threading.Thread(target=take, args=(held, True))]
        threads += [threading.Thread(target=take, args=(Lease(folder, 60), False)) for _ in range(7)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(won) == 1, turn
        won[0].release()


def test_a_night_during_which_the_clock_jumps_ends_well(
    nightly: Nightly, clock: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    replace = PreferenceTable.replace

    def later(*arguments: Any) -> int:
        clock[0] += 24 * 3600
        return replace(*arguments)

    monkeypatch.setattr(PreferenceTable, "replace", later)
    assert nightly.run(DAYS[0]) == 0 and len(nightly.rows()) == 20


def test_a_heartbeat_keeps_the_lease(folder: Path) -> None:
    with Lease(folder, 0.4).held("x") as lease:
        for _ in range(10):
            time.sleep(0.1)
            lease.check()
            with pytest.raises(BusyError):
                Lease(folder, 0.4).acquire("y")


def test_a_lease_that_cannot_be_given_back_runs_out_and_hides_no_outcome(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A full disk, once the work is done: the work stands, and its own error would be the one to see."""

    def full(*_: Any) -> None:
        raise ArtifactError("No room")

    with pytest.raises(KeyError, match="own"), Lease(folder, 60).held("x"):
        monkeypatch.setattr(lease_module, "write_json", full)
        raise KeyError("own")


def test_a_folder_that_another_refresh_is_just_making_is_not_a_strangers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The other one's mark appears between two looks at the folder."""
    ours, theirs = RefreshFolder(tmp_path / "nightly"), RefreshFolder(tmp_path / "nightly")
    ours.root.mkdir()
    (ours.root / ".refresh.json.0a1b2c3d").write_text("{}")  # not linked yet
    list_folder = os.listdir

    def slow(path: Path) -> list[str]:
        names = list_folder(path)
        monkeypatch.setattr(os, "listdir", list_folder)
        theirs.create("nightly")
        return names

    monkeypatch.setattr(os, "listdir", slow)
    ours.create("nightly")
    assert ours.name == "nightly" and ours.attempts.is_dir()


def test_of_two_processes_that_refresh_at_once_one_is_told_to_come_back(nightly: Nightly) -> None:
    text = nightly.path.read_text().replace("log:", "latency_seconds: 0.3\n    log:")
    nightly.path.write_text(text)
    command = [sys.executable, "-m", "rayflow", "refresh", str(nightly.path), "--date", DAYS[0]]
    both = [
        subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) for _ in "ab"
    ]
    errors = [process.communicate(timeout=120)[1] for process in both]
    assert sorted(process.returncode for process in both) == [0, 75], errors
    assert any("Another" in error and "Traceback" not in error for error in errors)
    assert len(nightly.rows()) == 20 == len(nightly.asked()) and len(nightly.root.records()) == 1
    assert subprocess.run(command, capture_output=True, check=False).returncode == 0


def test_a_record_is_ones_own_though_a_network_file_system_lost_the_answer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    link = os.link

    def lost(source: Path, target: Path) -> None:
        """The first call went through, its answer was lost, and the one that was sent again finds the file there."""
        link(source, target)
        raise FileExistsError(target)

    with monkeypatch.context() as patch:
        patch.setattr(os, "link", lost)
        assert create_json(tmp_path / "00000001.json", {"mine": True})
    assert not create_json(tmp_path / "00000001.json", {"mine": False})
    assert [path.name for path in tmp_path.iterdir()] == ["00000001.json"]
