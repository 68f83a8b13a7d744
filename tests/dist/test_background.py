"""Workers with less than a core step behind the others, on small machines only."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable

import pytest
import torch

from rayflow.config.blocks import PoolOptions
from rayflow.dist.background import belongs_behind, step_behind


@pytest.mark.parametrize(
    ("pool", "cores", "expected"),
    [
        ({"num_cpus": 0.5}, 2, True),
        ({"num_cpus": 0.25}, 8, True),
        ({"num_cpus": 0.5}, 9, False),
        ({"num_cpus": 1}, 2, False),
        ({"num_cpus": 0.5, "num_gpus": 0.5}, 2, False),
    ],
)
def test_a_share_below_a_core_is_behind_on_a_small_machine(
    monkeypatch: pytest.MonkeyPatch, pool: dict, cores: int, expected: bool
) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(cores)))
    assert belongs_behind(PoolOptions(**pool)) is expected


def in_a_thread(*steps: Callable[[], object]) -> None:
    thread = threading.Thread(target=lambda: [step() for step in steps])
    thread.start()
    thread.join()


@pytest.fixture
def one_thread(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """torch as Ray starts it; what it is then told."""
    told: list[int] = []
    monkeypatch.setattr(torch, "get_num_threads", lambda: 1)
    monkeypatch.setattr(torch, "set_num_threads", told.append)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 1, 2})
    return told


def test_a_thread_and_those_it_starts_step_behind_and_no_other(one_thread: list[int]) -> None:
    found: list[int] = []

    def look() -> None:
        found.append(os.sched_getscheduler(0))

    in_a_thread(look, step_behind, step_behind, look, lambda: in_a_thread(look))
    assert found == [os.SCHED_OTHER, os.SCHED_IDLE, os.SCHED_IDLE]
    assert os.sched_getscheduler(0) == os.SCHED_OTHER
    assert one_thread == [3]


def test_where_it_is_not_allowed_nothing_changes(
    monkeypatch: pytest.MonkeyPatch, one_thread: list[int]
) -> None:
    def refused(*_: object) -> None:
        raise PermissionError

    monkeypatch.setattr(os, "sched_setscheduler", refused)
    in_a_thread(step_behind)
    assert one_thread == []
