"""TensorBoard event files, written without TensorFlow: `tensorboard --logdir runs` shows all runs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import chain, count
from pathlib import Path
from typing import Any

from rayflow.core.options import KindOptions
from rayflow.errors import MissingPackageError
from rayflow.tracking.base import TrackedRun


class TensorBoard:
    """Scalars under `train/` and `summary/`, the configuration as text.

    A training that begins anew has a folder of its own, numbered: two curves in one would be drawn as one.
    """

    class Config(KindOptions):
        """Settings of `tensorboard`.

        Attributes:
            folder: where event files go, in one of the run's name, numbered if that is taken; None is `tensorboard` in
                the run's folder.
        """

        kind: str = "tensorboard"
        folder: str | None = None

    def __init__(self, options: Config) -> None:
        self.options = options
        self._writer: Any = None
        self._last = 0

    def check(self) -> None:
        """Look for the package.

        Raises:
            MissingPackageError: tensorboardX is not installed.
        """
        try:
            import tensorboardX  # noqa: F401
        except ImportError:
            raise MissingPackageError.of("tensorboardX", "track: tensorboard", "track") from None

    def start(self, run: TrackedRun, known: str | None) -> str:
        """Open the run's folder; going on adds a file to it."""
        from tensorboardX import SummaryWriter

        place = self._place(run, known)
        self._writer = SummaryWriter(str(place), flush_secs=10)
        if known is None:
            lines = [f"    {key}: {value}" for key, value in run.settings.items()]  # indented: a code block
            self._writer.add_text("configuration", "\n".join(lines))
        return str(place)

    def _place(self, run: TrackedRun, known: str | None) -> Path:
        """Where the run's events are, as far as the tracker's folder still is the same; else a new place."""
        given = self.options.folder
        base, name = (Path(given).expanduser(), run.name) if given else (run.folder, "tensorboard")
        base = base.absolute()
        stored = (
            [] if known is None else [Path(known).absolute(), run.folder / Path(known).name]
        )  # it was moved
        for place in stored:
            if place.is_relative_to(base) and _has_events(place):
                return place
        return _unused(base / name)

    def log(self, step: int, metrics: Mapping[str, float]) -> None:
        """Scalars at this step."""
        self._last = step
        for key, value in metrics.items():
            self._writer.add_scalar(f"train/{key}", value, step)

    def finish(self, summary: Mapping[str, float], files: Sequence[Path]) -> None:
        """Scalars at the last step; TensorBoard keeps no files."""
        for key, value in summary.items():
            self._writer.add_scalar(f"summary/{key}", value, self._last)
        self._writer.close()


def _unused(place: Path) -> Path:
    """The folder, or the first with a number behind it that holds no events."""
    others = (place.with_name(f"{place.name}-{number}") for number in count(2))
    return next(each for each in chain([place], others) if not _has_events(each))


def _has_events(place: Path) -> bool:
    return any(place.glob("events.*"))
