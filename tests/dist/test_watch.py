"""A step that finishes nothing is ended with what is known of it; one that goes on is left alone."""

from __future__ import annotations

import itertools
import signal
import threading
import time
from contextlib import nullcontext
from pathlib import Path

import pytest
import ray

from rayflow.config import PoolOptions
from rayflow.core.signals import stoppable
from rayflow.dist.data import crowded
from rayflow.dist.watch import stall_watch
from rayflow.errors import StageError
from rayflow.pipeline.stage import ShardWorker

SECOND = 1 / 60  # in minutes


@pytest.mark.parametrize("answers", [True, False], ids=["Ray answers", "Ray does not"])
def test_a_main_thread_that_waits_is_woken_with_an_error_and_a_file(
    answers: bool, tmp_path: Path, ray_cluster: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not answers:
        monkeypatch.setattr("rayflow.dist.watch.ray.cluster_resources", no_ray)
    begin = time.monotonic()
    with (
        pytest.raises(
            StageError, match=r"sample, score: nothing was finished for 0.005 minutes[\s\S]*stall-20"
        ),
        stoppable(),
        stall_watch(0.3 * SECOND, lambda: 7, lambda: "sample, score\n  sample: 3 of 8 pending", tmp_path),
    ):
        threading.Event().wait(30)
    assert time.monotonic() - begin < 25
    (state,) = tmp_path.glob("stall-*.txt")
    said = state.read_text()
    assert "sample: 3 of 8 pending" in said and "test_watch.py" in said  # where the threads were
    assert ("Not in use: {" in said, "Ray does not answer: System error: gone" in said) == (
        answers,
        not answers,
    )


def no_ray() -> None:
    raise ray.exceptions.RaySystemError("gone")


@pytest.mark.parametrize("ctrl_c", [signal.default_int_handler, signal.SIG_IGN], ids=["Ctrl-C's", "none"])
def test_where_sigterm_is_a_library_s_another_signal_serves_or_the_file_is_named(
    tmp_path: Path, ctrl_c
) -> None:  # noqa: ANN001
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    signal.signal(signal.SIGINT, ctrl_c)
    ended = (
        pytest.raises(StageError, match="nothing was finished") if ctrl_c != signal.SIG_IGN else nullcontext()
    )
    told = pytest.warns(UserWarning, match="end it by hand") if ctrl_c == signal.SIG_IGN else nullcontext()
    begin = time.monotonic()
    try:
        with told, ended, stall_watch(0.3 * SECOND, lambda: 7, lambda: "sample", tmp_path):
            if ctrl_c == signal.SIG_IGN:  # nothing wakes this thread
                (watch,) = [thread for thread in threading.enumerate() if thread.name == "stall-watch"]
                watch.join(40)
                assert not watch.is_alive()
            else:
                threading.Event().wait(40)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    assert time.monotonic() - begin < 30
    assert len(list(tmp_path.glob("stall-*.txt"))) == 1


def test_progress_however_slow_is_left_alone(tmp_path: Path) -> None:
    numbers = itertools.count()
    with stoppable(), stall_watch(0.2 * SECOND, lambda: next(numbers), lambda: "sample", tmp_path):
        time.sleep(0.8)
    with stoppable(), stall_watch(0, lambda: 7, lambda: "sample", tmp_path):
        time.sleep(0.1)
    assert not list(tmp_path.iterdir())


def test_storage_that_hangs_does_not_end_the_watch(tmp_path: Path) -> None:
    times = itertools.count()

    def progress() -> int:
        if next(times) == 1:
            raise OSError("Stale file handle")
        return 7

    (tmp_path / "logs").touch()  # where the state would be written, nothing can be
    begin = time.monotonic()
    with (
        pytest.raises(StageError, match="the run: nothing was finished .* could not be written down"),
        stoppable(),
        stall_watch(0.3 * SECOND, progress, lambda: "sample", tmp_path / "logs"),
    ):
        threading.Event().wait(30)
    assert time.monotonic() - begin < 25


def test_an_interruption_by_a_person_stays_one(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt), stall_watch(60, lambda: 7, lambda: "sample", tmp_path):
        raise KeyboardInterrupt


class Fake:
    """The part of a stage that says what it asks for."""

    def __init__(self, name: str, actor: bool, **pool: float) -> None:
        self.name, self.actor, self.pool = name, actor, PoolOptions(**pool)


def workers(sample: dict, score: dict) -> list[ShardWorker]:
    stages = [
        Fake("sample", True, **sample),
        Fake("score", True, **score),
        Fake("pair", False, num_cpus=0.25),
    ]
    return [ShardWorker(stage, (), None) for stage in stages]


def test_pools_that_leave_no_cpu_are_named() -> None:
    default = workers({"num_cpus": 1}, {"num_cpus": 0.5})
    assert crowded(default, num_cpus=2, num_nodes=1) == ""
    assert "ask for 1.5 of the cluster's 2 CPUs" in crowded(
        default, num_cpus=2, num_nodes=2
    )  # one may be lost
    full = workers({"num_workers": 3, "num_cpus": 1}, {"num_cpus": 1})
    assert "sample 3 x 1, score 1 x 1). Keep 0.25 free" in crowded(full, num_cpus=4, num_nodes=1)
    assert crowded(full, num_cpus=5, num_nodes=2) == ""
