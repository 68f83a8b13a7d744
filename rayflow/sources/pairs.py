"""The labelled pair of a row with a chosen and a rejected response, and the keys that may stand beside the two.

Row out: `Example`. What rayflow exports as pairs has these keys, so that its own layouts read them back.
"""

from __future__ import annotations

from typing import Any

from rayflow.core.given_rows import Example
from rayflow.sources.base import WRONG_TYPE, RowError
from rayflow.sources.fields import FINISH_REASONS, Context, group, has, score, target_of

SCORES = ("score_chosen", "score_rejected")
ENDINGS = ("finish_reason_chosen", "finish_reason_rejected")


def preference(given: Context, chosen: str, rejected: str, row: dict[str, Any]) -> Example:
    """A labelled pair, with the row's `target`, `SCORES` and `ENDINGS` where it has them.

    The chosen response comes first, so opposite labels of the same two responses have different ids.

    Raises:
        RowError: one of these values cannot be used.
    """
    scores = [score(row.get(key), key) for key in SCORES]
    return group(
        given,
        (chosen, rejected),
        scores,
        paired=True,
        target=target_of(row),
        finish_reasons=_endings(row),
    )


def _endings(row: dict[str, Any]) -> tuple[str, ...]:
    """How the two ended, where the row says it of one at least: the other then ended by itself. Else none."""
    if not any(has(row, key) for key in ENDINGS):
        return ()
    return tuple(_ending(row[key], key) if has(row, key) else "stop" for key in ENDINGS)


def _ending(value: Any, name: str) -> str:
    if value not in FINISH_REASONS:
        raise RowError(WRONG_TYPE, f"'{name}' must be {' or '.join(FINISH_REASONS)}, is {value!r:.80}")
    return value
