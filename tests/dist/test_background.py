"""Workers with less than a core run behind the others, on small machines only."""

from __future__ import annotations

import os
import threading

import pytest

from rayflow.config.blocks import PoolOptions
from rayflow.dist.background import in_background, yield_to_others


@pytest.mark.parametrize(
    ("pool", "cores", "expected"),
    [
        ({"num_cpus": 0.5}, 2, "2"),
        ({"num_cpus": 0.25}, 8, "8"),
        ({"num_cpus": 0.5}, 9, None),
        ({"num_cpus": 1}, 2, None),
        ({"num_cpus": 0.5, "num_gpus": 0.5}, 2, None),
    ],
)
def test_a_share_below_a_core_computes_on_all_of_a_small_machine(
    monkeypatch: pytest.MonkeyPatch, pool: dict, cores: int, expected: str | None
) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(cores)))
    assert in_background(PoolOptions(**pool)) is (expected is not None)
    assert os.environ["OMP_NUM_THREADS"] == (expected or "1")


def test_a_thread_and_those_it_starts_yield_and_no_other() -> None:
    found: list[int] = []

    def look() -> None:
        found.append(os.sched_getscheduler(0))

    def run(*steps) -> None:  # noqa: ANN002
        thread = threading.Thread(target=lambda: [step() for step in steps])
        thread.start()
        thread.join()

    run(look, yield_to_others, yield_to_others, look, lambda: run(look))
    assert found == [os.SCHED_OTHER, os.SCHED_IDLE, os.SCHED_IDLE]
    assert os.sched_getscheduler(0) == os.SCHED_OTHER
