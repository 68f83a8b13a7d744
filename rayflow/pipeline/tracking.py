"""Tells the configured tracker about a run, each step once, and never lets it end one.

What was told is remembered in the training stage's folder (in an evaluation, which trains nothing, in its last
stage's), so a resumed run goes on in the tracker too, and a training that is redone begins anew there.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

from rich.console import Console

from rayflow.core.files import read_json, write_json
from rayflow.core.options import build
from rayflow.core.private import hide
from rayflow.core.verbatim import verbatim
from rayflow.pipeline.folders import run_name
from rayflow.pipeline.identity import fingerprint
from rayflow.pipeline.plan import Plan
from rayflow.tracking.base import TrackedRun, Tracker

FILE = "tracking.json"
_SECTIONS = ("evaluation", "selection", "pairing", "training", "reference", "quality")
_FILES = ("config.yaml", "summary.json", "report.html")


class Tracking:
    """One run's tracker.

    Args:
        plan: of the run.
        console: where a person reads that the tracker has failed.
    """

    def __init__(self, plan: Plan, console: Console) -> None:
        self._config = plan.config
        told = plan.artifacts.get("train") or [*plan.artifacts.values()][-1]
        self._stage, self._folder = told, told.folder
        self._console = console
        self._tracker: Tracker | None = build("tracker", plan.config.track)
        self._wanted = plan.config.track.kind != "none"
        self._state: dict[str, Any] = {}

    def step(self, metrics: dict[str, float]) -> None:
        """One finished optimizer step; one that was told before is not told again."""
        if self._wanted:
            self._safely(lambda tracker: self._log(tracker, metrics))

    def finish(self) -> None:
        """The summary of a run whose training is done, or of a finished evaluation."""
        if self._wanted and self._stage.committed:
            self._safely(self._finish)

    def _log(self, tracker: Tracker, metrics: dict[str, float]) -> None:
        self._start(tracker)
        step = int(metrics["step"])
        if step > self._state["last_step"]:
            known = {key: value for key, value in metrics.items() if key != "step"}
            tracker.log(step, _numbers(known))
            self._remember(last_step=step)

    def _finish(self, tracker: Tracker) -> None:
        root = self._config.root
        summary = read_json(root / "summary.json")
        numbers = _numbers({key: summary.get(key) for key in _SECTIONS})
        told = fingerprint(numbers)
        stored = self._stored()
        if stored.get("kind") == self._config.track.kind and stored.get("summary") == told:
            return
        self._start(tracker)
        tracker.finish(numbers, [root / name for name in _FILES if (root / name).exists()])
        self._remember(summary=told)

    def _start(self, tracker: Tracker) -> None:
        if self._state:
            return
        kind, stored = self._config.track.kind, self._stored()
        known = stored if stored.get("kind") == kind else {}
        settings = {key: str(value) for key, value in _flat(self._config.model_dump(mode="json")).items()}
        run = TrackedRun(run_name(self._config.root), self._config.root, settings)
        name = tracker.start(run, known.get("id"))
        self._state = {"kind": kind, "id": name, "last_step": known.get("last_step", 0)}

    def _stored(self) -> dict[str, Any]:
        path = self._folder / FILE
        return read_json(path) if path.exists() else {}

    def _remember(self, **changes: Any) -> None:
        self._state |= changes
        write_json(self._folder / FILE, self._state)

    def _safely(self, tell: Callable[[Tracker], None]) -> None:
        """A tracker that is down must not cost a training run: it is said once, and the run goes on."""
        if self._tracker is None:
            return
        try:
            tell(self._tracker)
        except Exception as error:  # every tracker has errors of its own
            self._tracker = None
            # A server's address may hold a password, and what a server says may look like markup.
            said = verbatim(hide(str(error))[:200])
            self._console.print(
                f"[yellow]Tracking stopped:[/] {type(error).__name__}: {said}. The run goes on; its own "
                f"numbers are in {Path(self._folder.name, 'metrics.jsonl')} and summary.json.",
                soft_wrap=True,
            )


def _flat(value: Any, path: str = "") -> dict[str, Any]:
    """Dotted keys to leaves, without those that say nothing."""
    if isinstance(value, dict):
        return {
            k: v for key, item in value.items() for k, v in _flat(item, f"{path}.{key}".lstrip(".")).items()
        }
    return {} if value is None else {path: value}


def _numbers(values: dict[str, Any]) -> dict[str, float]:
    """The finite numbers among nested values."""
    return {
        key: float(value)
        for key, value in _flat(values).items()
        if isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    }
