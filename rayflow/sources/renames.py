"""Well-known forms of data that no layout reads as they are, and what to rename in them."""

from __future__ import annotations

import json
from typing import Any

_ASKED = ("question", "instruction", "query", "problem", "input")
_ANSWERED = ("answer", "output", "response", "solution")


def way_out(row: dict[str, Any]) -> str:
    """What to do with a row of a well-known form, without a full stop; empty where the form is none.

    A row with a `prompt` has none: its layout only lacks another key.
    """
    if isinstance(row.get("conversations"), list):
        return _conversations(row["conversations"])
    asked = next((key for key in _ASKED if isinstance(row.get(key), str)), None)
    if asked is not None:
        return _question(row, asked)
    if isinstance(row.get("text"), str):
        return (
            "cut each 'text' into 'prompt' and 'target', or "
            + _renamed({"text": "prompt"})
            + ", where it is the prompt alone"
        )
    return ""


def _question(row: dict[str, Any], asked: str) -> str:
    """Of a question, with its answer where there is one: Alpaca, Dolly, GSM8K, ..."""
    answered = next((key for key in _ANSWERED if key != asked and isinstance(row.get(key), str)), None)
    said = _renamed({asked: "prompt"} | ({answered: "target"} if answered else {}))
    more = next((key for key in ("input", "context") if key != asked and key in row), None)
    return said + (f"; put the text of '{more}', which is not read, behind the prompt" if more else "")


def _conversations(turns: list[Any]) -> str:
    if turns and isinstance(turns[0], dict) and "from" in turns[0]:
        return (
            "write 'conversations' as 'messages', each turn's 'from' as 'role' (human is user, gpt is assistant) and "
            "its 'value' as 'content', such as with map of the package datasets"
        )
    return _renamed({"conversations": "messages"})


def _renamed(names: dict[str, str]) -> str:
    said = " and ".join(f"'{old}' to '{new}'" for old, new in names.items())
    return f"rename {said}, such as by rename_columns({json.dumps(names)}) of the package datasets"
