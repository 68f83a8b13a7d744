"""The lineage of a held-out prompt: what both policies of a run or of an evaluation answered, and the verdicts."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from rayflow.errors import DataError

Columns = Mapping[str, Any]
_HELD_OUT = ("eval-", "policy-", "baseline-", "verdict-", "compare-", "kl-", "side-by-side")
_SCORE = "-score-"


def is_held_out(stage: str) -> bool:
    """Whether a stage's rows are answers or verdicts of an evaluation, instead of what is trained on."""
    return stage == "evaluate" or stage.startswith(_HELD_OUT)


def held_out(
    rows: Mapping[str, Columns],
    prompt: str,
    indices: Sequence[int],
    describe: Callable[[Columns, int], dict[str, Any]],
) -> dict[str, Any] | None:
    """What is stored of a prompt's evaluation.

    Args:
        rows: the prompt's row in each stage of an evaluation, by the stage's name.
        prompt: its id.
        indices: the responses to tell of; all of them if empty.
        describe: what to tell of one response of a side, from the side's columns.

    Returns:
        None if no side has answered; else `policy` and `baseline`, each the responses by index, and `verdicts`, by
        the stage that came to each one, its numbers for this prompt.

    Raises:
        DataError: more than one response is named, or one that neither side has.
    """
    sides = {side: _columns(rows, side) for side in ("policy", "baseline")}
    totals = {side: len(columns.get("responses") or ()) for side, columns in sides.items()}
    if not any(totals.values()):
        return None
    if len(indices) > 1:
        raise DataError(f"Prompt {prompt} is held out, so nothing is paired. Give {prompt}, or {prompt}/0.")
    if indices and indices[0] >= max(totals.values()):
        have = " and ".join(f"{total} of the {side}" for side, total in totals.items())
        raise DataError(
            f"Prompt {prompt} is held out, with responses {have}, counted from 0; not {indices[0]}."
        )
    told = {
        side: {
            str(i): _of(describe(columns, i)) for i in (indices or range(totals[side])) if i < totals[side]
        }
        for side, columns in sides.items()
    }
    return {**told, "verdicts": _verdicts(rows)}


def _columns(rows: Mapping[str, Columns], side: str) -> dict[str, Any]:
    """A side's columns over all its stages; of several rewards the first one is `rewards`, as in the report."""
    columns: dict[str, Any] = {}
    for stage, row in rows.items():
        if _side_of(stage) == side:
            columns = {**row, **columns} if _SCORE in stage else {**columns, **row}
        elif f"{side}_rewards" in row:  # a pairwise reward judges both sides at once
            columns.setdefault("rewards", row[f"{side}_rewards"])
    return columns


def _side_of(stage: str) -> str | None:
    """Which side's answers a stage holds: a run names it at the end of the stage's name, an evaluation before it."""
    if stage.startswith("eval-"):
        side = stage.rpartition("-")[2]
        return {"policy": "policy", "sft": "baseline", "target": "baseline"}.get(side)
    side = stage.partition("-")[0]
    return side if side in ("policy", "baseline") else None


def _of(candidate: dict[str, Any]) -> dict[str, Any]:
    """Without its place in a selection: there was none."""
    return {key: value for key, value in candidate.items() if key != "accepted_as"}


def _verdicts(rows: Mapping[str, Columns]) -> dict[str, dict[str, float]]:
    verdicts = {name: row for name, row in rows.items() if name == "evaluate" or name.startswith("verdict-")}
    return {
        name: {key: value for key, value in row.items() if isinstance(value, float)}
        for name, row in verdicts.items()
    }
