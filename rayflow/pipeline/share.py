"""Stages that another run has already made: taken over as files instead of being computed again."""

from __future__ import annotations

import shutil
import time
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path

from rayflow import __version__
from rayflow.core.files import write_json
from rayflow.pipeline.artifact import Artifact
from rayflow.pipeline.identity import fingerprint
from rayflow.pipeline.plan import Plan


def share(source: Artifact, target: Artifact) -> None:
    """The same stage in a second run: hard links where the file system has them, copies elsewhere.

    A copy becomes visible whole or not at all. A stage that the second run has begun already is left alone. Where it
    is the first that the second run has, that run begins now, under its own name.
    """
    if target.folder.exists():
        return
    root, marker = target.folder.parent, target.folder.parent / "run.json"
    root.mkdir(parents=True, exist_ok=True)
    if not marker.exists():
        write_json(marker, {"name": root.name, "created": time.time(), "version": __version__})
    pending = root / f".{target.folder.name}.part"
    shutil.rmtree(pending, ignore_errors=True)  # of a run that was killed here
    try:
        shutil.copytree(source.folder, pending, copy_function=lambda a, b: Path(b).hardlink_to(a))
    except (OSError, shutil.Error):
        shutil.rmtree(pending, ignore_errors=True)
        shutil.copytree(source.folder, pending)
    pending.rename(target.folder)


def same_making(one: Artifact, other: Artifact) -> bool:
    """Whether two stages are finished and hold the same files.

    Told by the time of making in the manifest, which shared files have in common: a fingerprint holds settings, and
    what is made a second time with the same ones, by a reward whose code has changed, say, need not be the same.
    """
    return one.committed and other.committed and one.manifest() == other.manifest()


def remade(source: Plan, target: Plan, names: Iterable[str]) -> list[str]:
    """The stored stages, of these, that the target has from a former making of the source's."""
    ours, theirs = target.artifacts, source.artifacts
    taken = [name for name in names if name in ours and name in theirs and ours[name].folder.exists()]
    return [name for name in taken if not same_making(ours[name], theirs[name])]


class Shelf:
    """The finished stages of many runs, by name and fingerprint.

    Only stages whose columns other stages read are on it: a trained model belongs to the run that made it, and so does
    what was computed with it.
    """

    def __init__(self) -> None:
        self._found: dict[tuple[str, str], dict[Path, Artifact]] = defaultdict(dict)
        self._runs: dict[Path, dict[str, Artifact]] = {}

    def add(self, run: Path) -> None:
        """Put a run's finished stages on it."""
        finished = [Artifact(path.parent) for path in sorted(run.glob("*/manifest.json"))]
        self._runs[run] = {artifact.name: artifact for artifact in finished}
        for artifact in finished:
            self._found[artifact.name, artifact.manifest().fingerprint].setdefault(run, artifact)

    def fill(self, plan: Plan) -> list[str]:
        """Give a plan every stage that is here and that it has not begun; returns their names."""
        shared = []
        own = plan.dependents([name for name, stage in plan.stages.items() if not hasattr(stage, "writes")])
        for name, artifact in plan.artifacts.items():
            if name in own or artifact.folder.exists():
                continue
            if found := self._fitting(plan, name):
                share(found, artifact)
                shared.append(name)
        return shared

    def _fitting(self, plan: Plan, name: str) -> Artifact | None:
        """The first such stage here that was made from what the plan has before it, and not from another making."""
        candidates = self._found.get((plan.artifacts[name].name, fingerprint(plan.identities[name])), {})
        inputs = [plan.artifacts[each] for each in plan.inputs(plan.stages[name])]
        for run, artifact in candidates.items():
            theirs = self._runs[run]
            if all(own.name in theirs and same_making(theirs[own.name], own) for own in inputs):
                return artifact
        return None
