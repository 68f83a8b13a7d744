"""Rates and the time left: right from the first thing that is finished, whatever came before it."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from rayflow.pipeline.pace import Pace, clock
from rayflow.pipeline.progress import StepProgress


def seconds_left(pace: Pace, total: int, now: float) -> float:
    """What `left` says, as a number."""
    words = pace.left(total, now).removesuffix(" left").split()
    return sum(
        float(n) * {"s": 1, "min": 60, "h": 3600}[unit]
        for n, unit in zip(words[::2], words[1::2], strict=True)
    )


def test_one_after_another_behind_a_slow_start() -> None:
    pace = Pace()  # an engine starts for 100 s; then 4 rows each 10 s
    assert pace.left(40, now=105) == "" and pace.per_second(105) == (0.0, 0.0)
    pace.note(4, tokens=400, took=10, now=110)
    assert pace.per_second(110) == pytest.approx((0.4, 40))
    assert seconds_left(pace, 40, now=110) == 90
    pace.note(20, tokens=2000, took=10, now=150)
    assert seconds_left(pace, 40, now=150) == 50
    pace.note(40, took=10, now=200)
    assert pace.left(40, now=200) == ""


def test_several_at_once_are_told_about_right_soon() -> None:
    pace = Pace(abreast=12)  # three shards of 4 rows, each 30 s, one of which ends every 10 s
    for shard in range(1, 16):
        end = 130.0 + 10 * (shard - 1)
        pace.note(4 * shard, took=30, now=end)
        said, true = seconds_left(pace, 64, end + 5), 10 * (16 - shard) - 5
        assert abs(said - true) <= true * (0.7 if shard == 1 else 0.2) + 6, (shard, said, true)


def test_a_hundred_at_once_that_end_together_are_not_taken_for_fast() -> None:
    pace = Pace(abreast=100)
    pace.note(100, took=120, now=200)
    assert (
        480 <= seconds_left(pace, 1000, now=201) <= 1080
    )  # 18 minutes more; half of the next are taken for done


def test_workers_that_have_not_come_are_not_counted_on() -> None:
    pace = Pace(abreast=100)
    pace.note(1, took=60, now=100)
    assert seconds_left(pace, 101, now=100) >= 0.49 * 100 * 60


def test_a_resumed_stage_is_told_by_what_this_call_does() -> None:
    pace = Pace(before=1000, tokens=5000)
    pace.note(1000, tokens=5000, now=50)
    assert pace.left(1100, now=50) == ""
    pace.note(1010, tokens=5100, took=10, now=60)
    assert pace.per_second(60) == pytest.approx((1.0, 10.0))
    assert seconds_left(pace, 1100, now=60) == 90


def test_without_a_duration_the_first_one_only_starts_the_clock() -> None:
    pace = Pace()  # steps of a training that goes on from its 40th, after loading for a minute
    pace.note(41, now=60)
    assert pace.left(100, now=60) == ""
    pace.note(43, now=70)
    assert seconds_left(pace, 100, now=70) == 285


def test_a_stall_makes_it_longer() -> None:
    pace = Pace()
    pace.note(4, took=10, now=10)
    assert seconds_left(pace, 8, now=10) < seconds_left(pace, 8, now=60)


def test_a_line_for_steps_has_no_time_left_before_it_is_known(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("rayflow.pipeline.progress.LINE_SECONDS", -1.0)
    console = Console(file=io.StringIO(), width=200)
    with StepProgress(console, total=4) as progress:
        for step in (1, 2):
            progress.update({"step": step, "loss": 0.5, "tokens_per_second": 99.6})
    first, second = console.file.getvalue().splitlines()
    assert first == "  train 1/4 steps (loss 0.5000, 100 tokens/s)"
    assert second.startswith("  train 2/4 steps (loss 0.5000, 100 tokens/s, ") and second.endswith(" s left)")


def test_clock() -> None:
    assert [clock(s) for s in (0.4, 59.4, 185, 7800)] == ["0 s", "59 s", "3 min 05 s", "2 h 10 min"]
