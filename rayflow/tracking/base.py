"""What a tracker is."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol


@dataclass(frozen=True)
class TrackedRun:
    """What a tracker is told of a run.

    Attributes:
        name: of the run; of a part of a job with the job's before it, such as "NAME/round-2".
        folder: of the run.
        settings: the resolved configuration, dotted keys to values.
    """

    name: str
    folder: Path
    settings: Mapping[str, str]


class Tracker(Protocol):
    """Receives a run's training metrics and its summary. Lives on the driver; never part of a fingerprint."""

    def check(self) -> None:
        """Look for what is needed, before time is spent.

        Raises:
            MissingPackageError: the tracker's package is not installed.
        """

    def start(self, run: TrackedRun, known: str | None) -> str:
        """Begin, or go on with what `known` names; returns the name by which to go on later."""

    def log(self, step: int, metrics: Mapping[str, float]) -> None:
        """The metrics of one optimizer step, counted from 1; all finite."""

    def finish(self, summary: Mapping[str, float], files: Sequence[Path]) -> None:
        """The run's numbers, dotted keys to finite values, and files that belong to it; the tracker is done."""
