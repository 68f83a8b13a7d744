"""Prompts that could not be computed: none is forgotten, none slips past the gate, also where each day has a file."""

from __future__ import annotations

import shutil
from collections.abc import Iterable

import pytest

from rayflow.refresh.folder import RefreshFolder
from tests.refresh.conftest import DAYS, Nightly

OTHER = "sample.temperature=0.9"
FLAKY = "reward.function=tests.refresh.engines:flaky"
OPEN = "refresh.gate={max_reward_shift: null, max_reward_distance: null, max_length_drift: null, min_distinct: null}"


class Daily:
    """A refresh that keeps what is missing, a new file of prompts every day."""

    def __init__(self, nightly: Nightly, monkeypatch: pytest.MonkeyPatch) -> None:
        self.nightly = nightly
        self._patch = monkeypatch
        path = f"prompts.train.path={nightly.folder}/{{date}}.jsonl"
        self.settings = (path, "refresh.missing=keep", FLAKY, OPEN)

    def __call__(self, day: int, names: Iterable | None, failing: float = 0.0, *more: str) -> int:
        """Refresh; `names` None calls the day again with the file that it has."""
        self._patch.setenv("FLAKY_SHARE", str(failing))
        if names is not None:
            self.nightly.write(names)
            self.nightly.prompts.rename(self.nightly.folder / f"{DAYS[day]}.jsonl")
        return self.nightly.run(DAYS[day], *self.settings, *more)

    @property
    def counts(self) -> dict:
        return self.nightly.root.records()[-1].counts


@pytest.fixture
def daily(nightly: Nightly, monkeypatch: pytest.MonkeyPatch) -> Daily:
    return Daily(nightly, monkeypatch)


def test_prompts_that_failed_in_a_version_that_was_held_back_come_back_the_next_night(daily: Daily) -> None:
    assert daily(0, range(40)) == 0
    assert daily(1, range(40, 42), 0.4, OTHER) == 3
    held_back = daily.nightly.table.num_rows(daily.nightly.table.head)
    assert held_back < 36 and len(daily.nightly.rows()) == 40
    assert daily(2, range(42, 44), 0.0, OTHER) == 0
    assert len(daily.nightly.rows()) == 44
    # The promoted rows of before are known prompts with other settings, what failed on its first day is new.
    assert sum(daily.counts["todo"].values()) == 44 - held_back and daily.counts["todo"]["sampling"] >= 10


def test_a_held_back_day_that_is_called_again_is_held_back_again_until_its_prompts_are_computed(
    daily: Daily,
) -> None:
    assert daily(0, range(40)) == 0
    before = daily.nightly.rows()
    for _ in range(3):
        assert daily(1, range(40, 42), 0.4, OTHER) == 3
        assert daily.nightly.rows() == before and daily.counts["failed"] >= 10
    assert daily(1, None, 0.0, OTHER) == 0
    assert len(daily.nightly.rows()) == 42 and daily.counts["failed"] == 0
    assert daily(1, None, 0.0, OTHER) == 0 and "Done before" in daily.nightly.said


def test_new_prompts_that_failed_in_a_promoted_version_are_tried_again_the_next_night(daily: Daily) -> None:
    assert daily(0, range(40)) == 0
    assert daily(1, range(40, 140), 0.05) == 0
    failed = daily.counts["failed"]
    assert failed > 0 and len(daily.nightly.rows()) == 140 - failed
    assert daily(2, range(140, 142), 0.05) == 0  # tried, and failed again: not forgotten either
    assert daily.counts["todo"] == {"new": 2 + failed}
    assert daily(3, range(142, 144)) == 0
    assert len(daily.nightly.rows()) == 144


def test_what_failed_is_remembered_when_working_files_are_not_kept(daily: Daily) -> None:
    bare = "refresh.retention={runs: 0, grace_hours: 0}"
    assert daily(0, range(40), 0.03, bare, "refresh.gate.max_failure_rate=0.5") == 0
    failed = daily.counts["failed"]
    assert failed > 0
    assert daily(1, range(5), 0.03, bare, "refresh.gate.max_failure_rate=0.5") == 0
    assert daily(2, range(40, 41), 0.0, bare) == 0
    assert len(daily.nightly.rows()) == 41 and daily.counts["todo"] == {"new": 1 + failed}


def test_prompts_that_failed_come_back_after_a_first_version_that_nobody_got(daily: Daily) -> None:
    assert daily(0, range(20), 0.4) == 3
    assert daily.nightly.root.latest is None
    assert daily(1, range(20, 22)) == 0
    assert len(daily.nightly.rows()) == 22


def test_a_refresh_killed_after_writing_is_judged_with_what_failed_though_its_run_is_gone(
    daily: Daily, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert daily(0, range(40)) == 0
    with monkeypatch.context() as patch:
        patch.setattr(RefreshFolder, "write_record", lambda *_: (_ for _ in ()).throw(OSError("no space")))
        with pytest.raises(OSError):
            daily(1, range(40, 42), 0.4, OTHER)
    shutil.rmtree(daily.nightly.root.attempts / f"{DAYS[1]}-1" / "run")  # as retention does
    assert daily(1, None, 0.4, OTHER) == 3
    assert daily.counts["failed"] >= 10


def test_a_version_does_not_pass_by_being_looked_at_again(daily: Daily) -> None:
    """Its list of prompts is gone, so nothing can be tried again; what it lacks is known all the same."""
    assert daily(0, range(20), 0.4) == 3
    failed = daily.counts["failed"]
    (daily.nightly.root.attempts / f"{DAYS[0]}-1" / "todo.jsonl").unlink()
    assert daily(1, names_of(daily.nightly), 0.4) == 3
    assert f"{failed} of 20 prompts could not be computed" in daily.nightly.said


def names_of(nightly: Nightly) -> list[str]:
    """What the newest version's prompts are about."""
    rows = nightly.rows(nightly.table.head)
    return [row["prompt"].removeprefix("Tell me all you know about ").rstrip(".") for row in rows]


def test_prompts_that_the_data_no_longer_has_are_not_missed(
    nightly: Nightly, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FLAKY_SHARE", "0.4")
    assert nightly.run(DAYS[0], FLAKY) == 3
    names = names_of(nightly)
    nightly.write(names)
    assert nightly.run(DAYS[1], FLAKY) == 0
    assert len(nightly.rows()) == len(names)
