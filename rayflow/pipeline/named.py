"""What a configuration names: every setting with the keys that lead to it, and among them its data files."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from pydantic import BaseModel

from rayflow.config import PromptSource

Keys = tuple[str | int, ...]


def walk(value: Any, above: Keys = ()) -> Iterator[tuple[Keys, Any]]:
    """Every setting and block inside a configuration, with the keys that lead to it."""
    if isinstance(value, BaseModel):
        inside: Iterable[tuple[str | int, Any]] = (
            (name, getattr(value, name)) for name in type(value).model_fields
        )
    elif isinstance(value, dict):
        inside = value.items()
    else:
        inside = enumerate(value) if isinstance(value, tuple) else ()
    for key, item in inside:
        yield (*above, key), item
        yield from walk(item, (*above, key))


def sources_of(found: Iterable[tuple[Keys, Any]]) -> Iterator[tuple[Keys, PromptSource]]:
    """Every data file or folder that is named, with the keys of its path.

    The rows of a study name theirs unchecked, as {prompts.train: {path: ..}} or {prompts.train.path: ..}.
    """
    for keys, value in found:
        if isinstance(value, PromptSource):
            source, keys = value, (*keys, "path")
        elif keys[0] == "rows" and isinstance(value, str) and str(keys[-1]).split(".")[-1] == "path":
            source = PromptSource(path=value)
        else:
            continue
        yield keys, source


def dotted(keys: Keys) -> str:
    """As in --set: prompts.train."""
    return ".".join(map(str, keys))
