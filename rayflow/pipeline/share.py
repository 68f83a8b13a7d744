"""Stages that another run has already made: taken over as files instead of being computed again."""

from __future__ import annotations

import shutil
import time
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


class Shelf:
    """The finished stages of many runs, by name and fingerprint.

    Only stages whose columns other stages read are on it: a trained model belongs to the run that made it, and so does
    what was computed with it.
    """

    def __init__(self) -> None:
        self._found: dict[tuple[str, str], Artifact] = {}

    def add(self, run: Path) -> None:
        """Put a run's finished stages on it."""
        for path in sorted(run.glob("*/manifest.json")):
            artifact = Artifact(path.parent)
            self._found.setdefault((artifact.name, artifact.manifest().fingerprint), artifact)

    def fill(self, plan: Plan) -> list[str]:
        """Give a plan every stage that is here and that it has not begun; returns their names."""
        shared = []
        own = plan.dependents([name for name, stage in plan.stages.items() if not hasattr(stage, "writes")])
        for name, artifact in plan.artifacts.items():
            found = self._found.get((artifact.name, fingerprint(plan.identities[name])))
            if name not in own and found and not artifact.folder.exists():
                share(found, artifact)
                shared.append(name)
        return shared
