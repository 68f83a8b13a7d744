"""Where a row of the preference table came from. Nothing of the run that made it is needed: retention removes those."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow.compute as pc

from rayflow.errors import ConfigError, DataError
from rayflow.pipeline.lineage import PairPath, candidates_of, pair_of
from rayflow.refresh.folder import RefreshFolder
from rayflow.refresh.recipe import PARTS
from rayflow.refresh.table import PreferenceTable


def trace_row(path: Path, version: int | None, text: str) -> dict[str, Any]:
    """Everything that a refresh knows of a row of its table.

    Args:
        path: the refresh's folder, or the table in it.
        version: of the table; the promoted one if None.
        text: an id: PROMPT, PROMPT/3 or PROMPT/3>5.

    Returns:
        As `pipeline.lineage.trace`, with `table` (name, version, and the day and try that computed the row) instead
        of `run`; in `stages` the parts of the recipe, whose settings the versions' records hold. Those of a record
        that an older rayflow wrote are empty.

    Raises:
        ArtifactError: not a refresh's folder, or a version that does not exist or that retention removed.
        ConfigError: nothing is promoted yet, and no version is named.
        DataError: no such prompt, candidate or pair.
    """
    folder, wanted = RefreshFolder.open(path), PairPath.parse(text)
    chosen = folder.latest if version is None else version
    if chosen is None:
        raise ConfigError(f"{folder.root} has no promoted version yet; name one with --version N.")
    here = pc.field("prompt_id") == wanted.prompt
    found = PreferenceTable(folder.table).batches(chosen, where=here)
    row = next((row for batch in found for row in batch.to_pylist()), None)
    if row is None:
        raise DataError(
            f"Version {chosen} of {folder.table} has no prompt '{wanted.prompt}'. `rayflow table {path} --export "
            "FOLDER` writes the ids of all pairs."
        )
    return {
        "id": text,
        "table": {"name": folder.name, "version": chosen, "date": row["date"], "attempt": row["attempt"]},
        "prompt": {key: row[key] for key in ("prompt_id", "prompt", "messages", "target")},
        "seed": row["seed"],
        "candidates": candidates_of(row, wanted),
        "pair": pair_of(row, wanted) if len(wanted.candidates) == 2 else None,
        "stages": {part: _made_by(folder, part, row[part]) for part in PARTS},
    }


def _made_by(folder: RefreshFolder, part: str, fingerprint: str) -> dict[str, Any]:
    """A part of the recipe, from whichever version's record has it: the row may be older than the version."""
    records = (record for record in folder.records() if record.recipe[part] == fingerprint)
    settings = next((record.settings[part] for record in records if part in record.settings), {})
    return {"made_from": settings, "fingerprint": fingerprint, "finished": None}
