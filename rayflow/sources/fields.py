"""Checked values out of a raw row, and the `Example` that they make. Shared by all layouts."""

from __future__ import annotations

import difflib
import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from rayflow.core.given_rows import Example
from rayflow.core.ids import prompt_id
from rayflow.core.numbers import as_float
from rayflow.core.rows import Message
from rayflow.sources.base import (
    EMPTY_PROMPT,
    MISSING_KEY,
    NOT_UNICODE,
    PREFILL,
    SEVERAL_TURNS,
    TOOLS_OR_IMAGES,
    WRONG_TYPE,
    RowError,
)

ROLES = ("system", "developer", "user", "assistant", "tool")
_NOT_TEXT = ("tool_calls", "function_call", "tools", "images", "image")
"""Keys, of a row or of a turn, whose content the model of whoever wrote the data has seen, and ours would not."""
FINISH_REASONS = ("stop", "length")
"""How a response may have ended: by itself, or cut at max_tokens."""
Context = str | tuple[Message, ...]
"""What a response answers: plain text, or chat turns."""


def has(row: dict[str, Any], *keys: str) -> bool:
    """Whether a row has values for all keys; a column that a Parquet file leaves null is no value."""
    return all(row.get(key) is not None for key in keys)


def first_of(row: dict[str, Any], *keys: str) -> tuple[str, Any]:
    """The first of `keys` that has a value, with that value.

    Raises:
        RowError: none has.
    """
    for key in keys:
        if has(row, key):
            return key, row[key]
    wanted = " or ".join(f"'{key}'" for key in keys)
    raise RowError(MISSING_KEY, f"needs {wanted}, {holdings(row, keys)}")


def holdings(row: dict[str, Any], wanted: Sequence[str]) -> str:
    """What a row has instead of the wanted keys, and which of its keys may be misspelt."""
    near = [match for key in row for match in difflib.get_close_matches(str(key), wanted, n=1)]
    near = [key for key in near if key not in row]
    hint = f" (is '{near[0]}' misspelt?)" if near else ""
    return f"has {', '.join(map(str, row)) or 'nothing'}{hint}"


def refuse_tools_and_images(values: dict[str, Any], name: str) -> None:
    """Let only text through: without the rest a response would answer another context than the one it was made for.

    Args:
        values: a row, or one of its turns.
        name: of it, for the message.

    Raises:
        RowError: it has tools, calls of them or images.
    """
    found = [key for key in _NOT_TEXT if not _is_empty(values.get(key))]
    if found:
        raise RowError(
            TOOLS_OR_IMAGES,
            f"{name} has '{found[0]}', which is not read, so the model would see another context: leave the row out, "
            "or write what it says into the text of a turn",
        )


def _is_empty(value: Any) -> bool:
    """Whether a column holds nothing: null, also at depth as Parquet fills it in, or an empty list written as text."""
    if isinstance(value, dict):
        return all(_is_empty(each) for each in value.values())
    if isinstance(value, list | tuple):
        return all(_is_empty(each) for each in value)
    return value is None or value is False or value in ("", b"", "[]", "{}", "null")


def text(value: Any, name: str) -> str:
    """A text that can be stored.

    Raises:
        RowError: another type; or half of a surrogate pair, which JSON can escape and UTF-8 cannot hold.
    """
    if not isinstance(value, str):
        raise RowError(WRONG_TYPE, f"'{name}' must be text, is {type(value).__name__}")
    try:
        value.encode()
    except UnicodeEncodeError as error:
        raise RowError(NOT_UNICODE, f"'{name}' is not valid Unicode text: {error.reason}") from None
    return value


def turns(value: Any, name: str) -> tuple[Message, ...]:
    """Chat turns with nothing but role and content.

    Raises:
        RowError: not a list of messages, a role that is not known, or a turn with tools or images.
    """
    if not isinstance(value, list | tuple):
        wanted, kind = ("", "text") if isinstance(value, str) else ("text or ", type(value).__name__)
        raise RowError(WRONG_TYPE, f"'{name}' must be {wanted}a list of messages, is {kind}")
    found: list[Message] = []
    for turn in value:
        if not isinstance(turn, dict) or not isinstance(turn.get("content"), str) or "role" not in turn:
            raise RowError(WRONG_TYPE, f"each message of '{name}' needs a 'role' and a text 'content'")
        if turn["role"] not in ROLES:
            raise RowError(WRONG_TYPE, f"unknown role '{turn['role']}'; known: {', '.join(ROLES)}")
        refuse_tools_and_images(turn, f"a turn of '{name}'")
        found.append({"role": turn["role"], "content": text(turn["content"], f"{name}.content")})
    return tuple(found)


def context(value: Any, name: str) -> Context:
    """A prompt, plain or chat, that has something in it.

    Raises:
        RowError: empty, or neither text nor messages.
    """
    given = text(value, name) if isinstance(value, str) else turns(value, name)
    if not given or (isinstance(given, str) and not given.strip()):
        raise RowError(EMPTY_PROMPT, f"'{name}' is empty")
    return given


def answer(value: Any, name: str) -> str:
    """A response: text, or a list of one assistant turn.

    Raises:
        RowError: something else, such as several turns.
    """
    if isinstance(value, str):
        return text(value, name)
    given = turns(value, name)
    if len(given) > 1:
        raise RowError(SEVERAL_TURNS, f"'{name}' must be one turn, is {len(given)}")
    if not given or given[0]["role"] != "assistant":
        found = given[0]["role"] if given else "nothing"
        raise RowError(WRONG_TYPE, f"'{name}' must end with an assistant's turn, ends with {found}")
    return given[0]["content"]


def score(value: Any, name: str) -> float:
    """A given score; NaN where there is none.

    Raises:
        RowError: not a number, or infinite.
    """
    if value is None:
        return math.nan
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise RowError(WRONG_TYPE, f"'{name}' must be a number, is {type(value).__name__}")
    number = as_float(value)
    if math.isinf(number):
        raise RowError(WRONG_TYPE, f"'{name}' must be finite")
    return number


def example(given: Context, target: str | None = None) -> Example:
    """A prompt without responses. A target is part of its id: two answers to one prompt are two examples."""
    prompt, messages = (given, ()) if isinstance(given, str) else (None, given)
    return Example(
        prompt_id=prompt_id(prompt, messages, () if target is None else (target,)),
        prompt=prompt,
        messages=messages,
        target=target,
        responses=(),
        pairs=(),
        rewards=np.empty(0),
    )


def target_of(row: dict[str, Any]) -> str | None:
    """The row's supervised answer, where it has one beside its responses."""
    return answer(row["target"], "target") if has(row, "target") else None


def finish_reasons_of(row: dict[str, Any], num_responses: int) -> tuple[str, ...]:
    """How each response ended, where the row says it; else none.

    Raises:
        RowError: not one of two words for each response.
    """
    if not has(row, "finish_reasons"):
        return ()
    value = row["finish_reasons"]
    known = isinstance(value, list | tuple) and all(each in FINISH_REASONS for each in value)
    if not known or len(value) != num_responses:
        raise RowError(
            WRONG_TYPE, f"'finish_reasons' must be a list of {num_responses} words, stop or length"
        )
    return tuple(value)


def group(
    given: Context,
    responses: tuple[str, ...],
    scores: Sequence[float],
    paired: bool = False,
    target: str | None = None,
    finish_reasons: tuple[str, ...] = (),
) -> Example:
    """A prompt with its responses; `paired`: the first was preferred to the second. A target is part of the id.

    Raises:
        RowError: the prompt ends with the assistant's turn, behind which a response would be a second one.
    """
    if given and not isinstance(given, str) and given[-1]["role"] == "assistant":
        raise RowError(
            PREFILL,
            "the prompt ends with an assistant's turn, so a response would be a second one in a row: put its text in "
            "front of every response, and end the prompt with the turn before it",
        )
    prompt, messages = (given, ()) if isinstance(given, str) else (None, given)
    return Example(
        prompt_id=prompt_id(prompt, messages, responses if target is None else (*responses, target)),
        prompt=prompt,
        messages=messages,
        target=target,
        responses=responses,
        pairs=(np.array([0, 1], dtype=np.int32),) if paired else (),
        rewards=np.asarray(scores, dtype=np.float64),
        finish_reasons=finish_reasons,
    )
