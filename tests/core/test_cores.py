"""Which cores a run's workers share."""

from __future__ import annotations

import os

import pytest

from rayflow.core.cores import cores_to_share


@pytest.mark.parametrize(
    ("mine", "shared"), [({3, 1}, [1, 3]), (set(range(8)), list(range(8))), (set(range(9)), [])]
)
def test_the_cores_of_a_small_machine_are_shared(
    monkeypatch: pytest.MonkeyPatch, mine: set[int], shared: list[int]
) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: mine)
    assert cores_to_share() == shared


def test_a_system_that_does_not_tell_has_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(os, "sched_getaffinity", raising=False)
    assert cores_to_share() == []
