"""One try at a date: its folder, and whether an unfinished one can be gone on with.

An attempt is planned (plan.json), computed (run/, a run of the pipeline), written (one entry of the table's log),
judged and promoted, and then done (done.json). Killed at any moment it is taken up again by the next call for the
same date, unless the configuration has changed so that its rows would be others.
"""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

from rayflow.core.files import read_json, write_json
from rayflow.pipeline.identity import differences
from rayflow.refresh.changes import TODO, Base, Changes, read_ids
from rayflow.refresh.recipe import Recipe, content_of, recipe_of
from rayflow.refresh.todo import read_back


class Attempt:
    """A folder below `attempts/`, named by its date and a number."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.name = folder.name
        self.todo = folder / TODO
        self.run = folder / "run"

    @property
    def plan(self) -> dict[str, Any] | None:
        """What was decided; None before it was."""
        path = self.folder / "plan.json"
        return read_json(path) if path.exists() else None

    @property
    def done(self) -> bool:
        """Whether nothing is left to do."""
        return (self.folder / "done.json").exists()

    @property
    def _planned(self) -> dict[str, Any]:
        plan = self.plan
        assert plan is not None
        return plan

    @property
    def counts(self) -> dict[str, Any]:
        """Prompts by what became of them (see `changes`)."""
        return self._planned["counts"]

    @property
    def recipe(self) -> Recipe:
        """What its rows are made from, even where the configuration has changed since they were written."""
        return Recipe(**self._planned["identity"]["recipe"])

    @property
    def settings(self) -> dict[str, dict[str, Any]]:
        """What each part of the recipe is made of."""
        return self._planned["settings"]

    @property
    def num_todo(self) -> int:
        """Prompts to compute."""
        return sum(self.counts["todo"].values())

    @property
    def num_wanted(self) -> int:
        """Prompts that the table should have."""
        return self.num_todo + self.counts["carried"] + self.counts["restored"]

    @property
    def changes_nothing(self) -> bool:
        """Whether the table is up to date as it is."""
        return not (self.num_todo or self.counts["restored"] or self.counts["gone"])

    def finish(self, result: dict[str, Any]) -> None:
        """Nothing is left to do."""
        write_json(self.folder / "done.json", result)

    def carried(self) -> list[str]:
        """Ids of the rows that stay."""
        return read_ids(self.folder / "carried.txt")

    def restored(self) -> list[str]:
        """Ids of the rows that come back."""
        return read_ids(self.folder / "restored.txt")

    def contents(self) -> dict[str, str]:
        """Content hashes of the prompts that are computed, by id."""
        return {prompt.prompt_id: content_of(prompt) for prompt in read_back(self.todo)}


def begin(
    folder: Path, date: str, base: Base, settings: dict[str, dict[str, Any]], config: Any
) -> tuple[Attempt, str]:
    """The attempt to go on with at a date, planned.

    Args:
        folder: of all attempts.
        date: ISO.
        base: what the table has.
        settings: of today (see `recipe.settings_of`).
        config: the refresh's.

    Returns:
        The attempt, and what to tell about it ("" for nothing).
    """
    attempt, number = newest(folder, date)
    recipe = recipe_of(settings)
    wanted = _identity(base, recipe, config)
    told = ""
    if attempt is not None and not attempt.done:
        stored = attempt.plan
        if stored is not None:
            written = base.table.written(attempt.name)
            gone = written is not None and not base.table.readable(written)
            if not gone and (written is not None or _decisive(stored["identity"]) == _decisive(wanted)):
                return attempt, f"Going on with {attempt.name}."
            changes = f"retention removed the data of version {written}, which it wrote"
            if not gone:
                changes = "; ".join(differences(stored["identity"], wanted))
            attempt.finish({"abandoned": changes})
            told = f"{attempt.name} was unfinished and is given up, because something has changed: {changes}."
    if attempt is None or attempt.done:
        attempt = Attempt(folder / f"{date}-{number + 1}")
    shutil.rmtree(attempt.folder, ignore_errors=True)  # killed while it was planned
    attempt.folder.mkdir(parents=True)
    Changes(config, recipe, base, attempt.folder).write(wanted, settings)
    return attempt, told


def newest(folder: Path, date: str) -> tuple[Attempt | None, int]:
    """The last attempt at a date, and its number; (None, 0) before the first."""
    found = [path.name.removeprefix(f"{date}-") for path in folder.glob(f"{date}-*")]
    number = max((int(text) for text in found if text.isdigit()), default=0)
    return (Attempt(folder / f"{date}-{number}") if number else None), number


def _identity(base: Base, recipe: Recipe, config: Any) -> dict[str, Any]:
    """What the decision follows from, but for the data: what has come in since is the next refresh's."""
    return {
        "recipe": recipe.to_dict(),
        "dedup": config.refresh.dedup.model_dump(mode="json"),
        "missing": config.refresh.missing,
        "head": base.head,
        "latest": base.latest,
    }


def _decisive(identity: dict[str, Any]) -> dict[str, Any]:
    """The same without what is only for people."""
    return identity | {"recipe": Recipe(**identity["recipe"]).identity()}
