"""No tracker: the run's own report is enough."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from rayflow.core.options import KindOptions
from rayflow.tracking.base import TrackedRun


class Nowhere:
    """Forgets what it is told."""

    class Config(KindOptions):
        """Nothing to set."""

        kind: str = "none"

    def __init__(self, options: Config) -> None:
        self.options = options

    def check(self) -> None:
        """Nothing is needed."""

    def start(self, run: TrackedRun, known: str | None) -> str:
        """Nothing to begin."""
        return ""

    def log(self, step: int, metrics: Mapping[str, float]) -> None:
        """Nothing is kept."""

    def finish(self, summary: Mapping[str, float], files: Sequence[Path]) -> None:
        """Nothing to end."""
