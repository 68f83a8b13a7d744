"""What a person sees while a stage runs: rows done, rate, time left; and the brake for failing rows.

Everything is read from the committed markers, so it is the same for every runner and counts only what is
safely stored.
"""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

from rayflow.core.beats import every
from rayflow.errors import StageError
from rayflow.pipeline.artifact import Artifact
from rayflow.sources.read import DROPPED

POLL_SECONDS = 0.5
LINE_SECONDS = 30.0


@dataclass
class StageCount:
    """Running totals of one stage, from the markers seen so far."""

    artifact: Artifact
    total: int
    seen: set[int] = field(default_factory=set)
    rows: int = 0
    tokens: int = 0
    reasons: Counter[str] = field(default_factory=Counter)
    example: str = ""

    @classmethod
    def of_all(cls, artifact: Artifact) -> StageCount:
        """Of a stage whose every shard is written."""
        count = cls(artifact, 0)
        count.refresh()
        count.total = count.rows + sum(count.reasons.values())
        return count

    def refresh(self) -> None:
        """Count the shards that were committed since the last call."""
        for index in self.artifact.committed_shards() - self.seen:
            marker = self.artifact.marker(index)
            self.seen.add(index)
            self.rows += marker.rows
            self.tokens += marker.tokens
            for failure in marker.failures:
                self.reasons[failure.reason] += 1
                self.example = self.example or f"{failure.prompt_id}: {failure.detail}"

    @property
    def failed(self) -> int:
        """Rows that failed; a duplicate, or a row of another split, is dropped, not failed."""
        return sum(count for reason, count in self.reasons.items() if reason not in DROPPED)

    def check(self, max_failed_fraction: float) -> None:
        """Stop a stage whose failures can no longer stay within the allowed share.

        Raises:
            StageError: with the most frequent reasons and an example.
        """
        if self.failed > max_failed_fraction * max(1, self.total):
            reasons = "; ".join(f"{reason} ({count})" for reason, count in self.reasons.most_common(3))
            raise StageError(
                f"Stage {self.artifact.name}: {self.failed} of {self.total} rows failed, more than "
                f"max_failed_fraction={max_failed_fraction:g} allows. Reasons: {reasons}. First: "
                f"{self.example}. Finished rows are kept. Mend the cause and run again with "
                f"--force-stage {self.artifact.name}, or raise max_failed_fraction."
            )


class ProgressMonitor:
    """Bars on a terminal, a line now and then elsewhere; refreshed from a thread while work runs."""

    def __init__(self, console: Console, counts: Sequence[StageCount], unit: str = "prompts") -> None:
        self._console = console
        self._counts = counts
        self._unit = unit
        self._lock = threading.Lock()
        self._start = time.monotonic()
        for count in counts:
            count.refresh()
        self._first = [(count.rows + count.failed, count.tokens) for count in counts]
        self._bars = _bars(console, "rate")
        self._tasks: list[TaskID] = [
            self._bars.add_task(count.artifact.name, total=count.total, rate="") for count in counts
        ]
        self._last_line = time.monotonic()

    @contextmanager
    def running(self) -> Iterator[None]:
        """Show progress until the block ends."""
        # Listing very many shards may take a while.
        with self._bars, every(POLL_SECONDS, self.refresh, "progress", rest=20, at_end=True):
            yield

    def check(self, max_failed_fraction: float) -> None:
        """Raise once a stage has failed too often (see `StageCount.check`), as far as it was last counted.

        Cheap, so that it may be called after every shard: `running` counts, now and then and at its end.
        """
        with self._lock:
            for count in self._counts:
                count.check(max_failed_fraction)

    def refresh(self) -> None:
        """Read the new markers and redraw."""
        with self._lock:
            for count, task, first in zip(self._counts, self._tasks, self._first, strict=True):
                count.refresh()
                done = count.rows + count.failed
                self._bars.update(task, completed=done, rate=self._rate(count, first))
            if not self._console.is_terminal and time.monotonic() - self._last_line > LINE_SECONDS:
                self._last_line = time.monotonic()
                self._print_line()

    def _rate(self, count: StageCount, first: tuple[int, int]) -> str:
        seconds = max(time.monotonic() - self._start, 1e-9)
        rows = (count.rows + count.failed - first[0]) / seconds
        tokens = (count.tokens - first[1]) / seconds
        return f"{rows:.2f} {self._unit}/s" + (f", {tokens:,.0f} tokens/s" if tokens else "")

    def _print_line(self) -> None:
        parts, before = [], -1
        seconds = time.monotonic() - self._start
        for count, first in zip(self._counts, self._first, strict=True):
            done, previous = count.rows + count.failed, before
            before = done
            if 0 < done < count.total and done != previous:  # a stage that keeps up is not worth a word
                left = seconds / max(1, done - first[0]) * (count.total - done)
                rate = self._rate(count, first)
                parts.append(f"{count.artifact.name} {done}/{count.total} ({rate}, {clock(left)} left)")
        if parts:
            self._console.print("  " + "; ".join(parts), highlight=False, soft_wrap=True)


class StepProgress:
    """A bar for optimizer steps: how far, how long still, and the loss."""

    def __init__(self, console: Console, total: int) -> None:
        self._console = console
        self._bar = _bars(console, "loss")
        self._task = self._bar.add_task("train", total=total, loss="")
        self._total = total
        self._start = self._last_line = time.monotonic()
        self._first: int | None = None

    def __enter__(self) -> StepProgress:
        self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.stop()

    def update(self, metrics: dict[str, float]) -> None:
        """Show a finished step."""
        step, now = int(metrics["step"]), time.monotonic()
        self._first = step - 1 if self._first is None else self._first
        loss = f"loss {metrics['loss']:.4f}, {metrics.get('tokens_per_second', 0):,.0f} tokens/s"
        self._bar.update(self._task, completed=step, loss=loss)
        if not self._console.is_terminal and (now - self._last_line > LINE_SECONDS):
            self._last_line = now
            left = (now - self._start) / max(1, step - self._first) * (self._total - step)
            self._console.print(f"  train {step}/{self._total} steps ({loss}, {clock(left)} left)")


def _bars(console: Console, field: str) -> Progress:
    """Bars of one look: name, bar, count, the task's `field`, time left; nothing off a terminal."""
    return Progress(
        TextColumn("  {task.description:<20}"),
        BarColumn(bar_width=28),
        MofNCompleteColumn(),
        TextColumn(f"{{task.fields[{field}]}}"),
        TimeRemainingColumn(compact=True),
        console=console,
        disable=not console.is_terminal,
        transient=True,
    )


def clock(seconds: float) -> str:
    """Seconds as a person says them: "42 s", "3 min 05 s", "2 h 10 min"."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"
