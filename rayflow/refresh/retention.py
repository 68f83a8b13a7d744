"""What is thrown away: data of old versions, and working files of finished refreshes."""

from __future__ import annotations

import shutil
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rayflow.config.refresh import RetentionOptions
from rayflow.refresh.changes import FILES, TODO
from rayflow.refresh.folder import RefreshFolder
from rayflow.refresh.table import PreferenceTable

DAY = 86400.0


def versions_to_keep(
    promoted: Mapping[int, Mapping[str, Any]], options: RetentionOptions, now: float
) -> set[int]:
    """The promoted versions that stay: the newest ones, and all that are young enough.

    Args:
        promoted: promotions by version.
        options: how many, how long.
        now: Unix time.
    """
    newest = sorted(promoted)[-options.versions :]
    young = [v for v, each in promoted.items() if now - each["promoted"] < options.days * DAY]
    return {*newest, *young}


def clean(folder: RefreshFolder, table: PreferenceTable, options: RetentionOptions) -> list[int]:
    """Remove what need not be kept; returns the versions that cannot be read any more.

    The newest version stays even if it was not promoted: the next refresh carries its rows over.
    """
    head = table.head
    keep = versions_to_keep(folder.promoted(), options, time.time())
    known = [record.version for record in folder.records() if record.removed is None]
    gone = [version for version in known if version not in keep and version != head]
    table.vacuum({*keep, head}, options.grace_hours)  # what interrupted writes have left behind, too
    removed = [version for version in gone if not table.readable(version)]
    for version in removed:
        folder.mark_removed(version)
    for record in folder.records():
        if record.removed is not None:
            remove_groups(folder, record.version)
    _remove_runs(folder, options.runs, table.attempt_of(head))
    return removed


def remove_groups(folder: RefreshFolder, version: int) -> None:
    """The copy of a version that its training reads, and what is left of one that was not finished."""
    groups = folder.groups(version)
    for path in (groups, *groups.parent.glob(f".{groups.name}.*")):
        shutil.rmtree(path, ignore_errors=True)


def _remove_runs(folder: RefreshFolder, keep: int, newest: str | None) -> None:
    """Samples, scores and so on of all attempts but the last ones; their plans and reports stay.

    An attempt that was never finished loses its run as well: should it be gone on with, it computes it again. The
    prompts of the one that wrote the newest version stay: the next refresh tries again those that failed.
    """
    attempts = sorted(folder.attempts.iterdir(), key=_planned)
    for old in attempts[: max(0, len(attempts) - keep)]:
        shutil.rmtree(old / "run", ignore_errors=True)
        if (old / "done.json").exists():
            for name in FILES:
                if (name, old.name) != (TODO, newest):
                    (old / name).unlink(missing_ok=True)


def _planned(attempt: Path) -> float:
    """When an attempt was planned, Unix time; 0 if it never got so far."""
    plan = attempt / "plan.json"
    return plan.stat().st_mtime if plan.exists() else 0.0
