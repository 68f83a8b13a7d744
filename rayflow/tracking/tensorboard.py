"""TensorBoard event files, written without TensorFlow: `tensorboard --logdir runs` shows all runs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rayflow.core.options import KindOptions
from rayflow.errors import MissingPackageError
from rayflow.tracking.base import TrackedRun


class TensorBoard:
    """Scalars under `train/` and `summary/`, the configuration as text."""

    class Config(KindOptions):
        """Settings of `tensorboard`.

        Attributes:
            folder: where event files go, in a folder of the run's name; None is `tensorboard` in the run's folder.
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

        folder = self.options.folder
        place = Path(folder).expanduser() / run.name if folder else run.folder / "tensorboard"
        self._writer = SummaryWriter(str(place), flush_secs=10)
        if known is None:
            lines = [f"    {key}: {value}" for key, value in run.settings.items()]  # indented: a code block
            self._writer.add_text("configuration", "\n".join(lines))
        return str(place)

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
