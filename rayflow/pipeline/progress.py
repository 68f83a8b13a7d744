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
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn

from rayflow.core.beats import every
from rayflow.errors import ArtifactError, StageError
from rayflow.pipeline.artifact import Artifact
from rayflow.pipeline.pace import Pace
from rayflow.sources.read import DROPPED

POLL_SECONDS = 0.5
LINE_SECONDS = 30.0


@dataclass
class StageCount:
    """Running totals of one stage, from the markers seen so far.

    Attributes:
        artifact: of the stage.
        total: rows that it will have.
        abreast: rows that its workers have in work at once; 0 where nobody knows.
        longest: seconds of the shard that took the longest.
    """

    artifact: Artifact
    total: int
    abreast: float = 0.0
    seen: set[int] = field(default_factory=set)
    rows: int = 0
    tokens: int = 0
    longest: float = 0.0
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
        for index in self.artifact.shards.committed() - self.seen:
            marker = self.artifact.shards.marker(index)
            self.seen.add(index)
            self.rows += marker.rows
            self.tokens += marker.tokens
            self.longest = max(self.longest, marker.seconds)
            for failure in marker.failures:
                self.reasons[failure.reason] += 1
                if failure.reason not in DROPPED:
                    self.example = self.example or f"{failure.prompt_id}: {failure.detail}"

    @property
    def done(self) -> int:
        """Rows that the stage has finished with, one way or the other."""
        return self.rows + self.failed

    @property
    def failed(self) -> int:
        """Rows that failed; a duplicate, or a row of another split, is dropped, not failed."""
        return sum(self._failures.values())

    @property
    def _failures(self) -> Counter[str]:
        return Counter({reason: count for reason, count in self.reasons.items() if reason not in DROPPED})

    def check(self, max_failed_fraction: float) -> None:
        """Stop a stage whose failures can no longer stay within the allowed share.

        Raises:
            StageError: with the most frequent reasons and an example.
        """
        if self.failed > max_failed_fraction * max(1, self.total):
            reasons = "; ".join(f"{reason} ({count})" for reason, count in self._failures.most_common(3))
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
        for count in counts:
            count.refresh()
            count.longest = 0.0  # how long an earlier call's shards took says nothing of this one's
        self._paces = [Pace(count.done, count.tokens, count.abreast) for count in counts]
        self._bars = _bars(console)
        self._tasks: list[TaskID] = [
            self._bars.add_task(count.artifact.name, total=count.total, told="") for count in counts
        ]
        self._last_line = time.monotonic()

    @contextmanager
    def running(self) -> Iterator[None]:
        """Show progress until the block ends."""
        # Listing very many shards may take a while, and storage may come back: the brake must not end with one miss.
        away = (OSError, ArtifactError)
        with self._bars, every(POLL_SECONDS, self.refresh, "progress", rest=20, at_end=True, forgive=away):
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
            for count, task, pace in zip(self._counts, self._tasks, self._paces, strict=True):
                count.refresh()
                pace.note(count.done, count.tokens, count.longest)
                self._bars.update(task, completed=count.done, told=self._told(count, pace))
            if not self._console.is_terminal and time.monotonic() - self._last_line > LINE_SECONDS:
                self._last_line = time.monotonic()
                self._print_line()

    def _told(self, count: StageCount, pace: Pace) -> str:
        rows, tokens = pace.per_second()
        rates = [f"{rows:.2f} {self._unit}/s" if rows else "", f"{tokens:,.0f} tokens/s" if tokens else ""]
        return ", ".join(part for part in (*rates, pace.left(count.total)) if part)

    def _print_line(self) -> None:
        parts, before = [], -1
        for count, pace in zip(self._counts, self._paces, strict=True):
            done, previous = count.done, before
            before = done
            if 0 < done < count.total and done != previous:  # a stage that keeps up is not worth a word
                told = self._told(count, pace)
                parts.append(f"{count.artifact.name} {done}/{count.total}" + (f" ({told})" if told else ""))
        if parts:
            self._console.print("  " + "; ".join(parts), highlight=False, soft_wrap=True)


class StepProgress:
    """A bar for optimizer steps: how far, how long still, and the loss."""

    def __init__(self, console: Console, total: int) -> None:
        self._console = console
        self._bar = _bars(console)
        self._task = self._bar.add_task("train", total=total, told="")
        self._total = total
        self._pace = Pace()
        self._last_line = time.monotonic()

    def __enter__(self) -> StepProgress:
        self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.stop()

    def update(self, metrics: dict[str, float]) -> None:
        """Show a finished step."""
        step, now = int(metrics["step"]), time.monotonic()
        self._pace.note(step)
        rate = f"{metrics.get('tokens_per_second', 0):,.0f} tokens/s"
        left = self._pace.left(self._total)
        told = ", ".join(part for part in (f"loss {metrics['loss']:.4f}", rate, left) if part)
        self._bar.update(self._task, completed=step, told=told)
        if not self._console.is_terminal and (now - self._last_line > LINE_SECONDS):
            self._last_line = now
            self._console.print(f"  train {step}/{self._total} steps ({told})")


def _bars(console: Console) -> Progress:
    """Bars of one look: name, bar, count, what the task's field `told` says; nothing off a terminal."""
    return Progress(
        TextColumn("  {task.description:<20}"),
        BarColumn(bar_width=28),
        MofNCompleteColumn(),
        TextColumn("{task.fields[told]}"),
        console=console,
        disable=not console.is_terminal,
        transient=True,
    )
