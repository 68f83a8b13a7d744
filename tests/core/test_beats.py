"""What is done again and again beside the work: while it lasts, not too often, and once more at its end."""

from __future__ import annotations

import threading
import time

import pytest

from rayflow.core.beats import every


def test_it_is_done_while_the_block_runs_and_once_more_at_its_end() -> None:
    calls, third = [], threading.Event()

    def act() -> None:
        calls.append(threading.current_thread().name)
        if len(calls) == 3:
            third.set()

    with pytest.raises(ValueError, match="the work's own"), every(0.01, act, "beat", at_end=True):
        assert third.wait(10)
        raise ValueError("the work's own")
    done = len(calls)
    assert set(calls[:-1]) == {"beat"} and calls[-1] != "beat"
    time.sleep(0.05)
    assert len(calls) == done and "beat" not in [thread.name for thread in threading.enumerate()]


def test_false_is_the_last_time() -> None:
    calls = []
    with every(0.001, lambda: calls.append(0) or len(calls) < 2, "beat"):
        time.sleep(0.2)
    assert len(calls) == 2


def test_what_is_forgiven_does_not_end_the_calls() -> None:
    calls, fourth = [], threading.Event()

    def act() -> None:
        calls.append(0)
        if len(calls) == 4:
            fourth.set()
        raise OSError("storage hangs")

    with every(0.001, act, "beat", forgive=(OSError,)):
        assert fourth.wait(10)


def test_what_takes_long_is_done_more_rarely() -> None:
    calls = []
    with every(0.001, lambda: calls.append(time.sleep(0.02)), "beat", rest=1000):
        time.sleep(0.3)
    assert len(calls) == 1
