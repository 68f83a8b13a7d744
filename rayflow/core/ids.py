"""The names of prompts and pairs: the same on every machine and in every run."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterable, Sequence
from typing import Any

from rayflow.core.rows import Message


def prompt_id(
    prompt: str | None, messages: tuple[Message, ...] | list[Message], responses: tuple[str, ...] = ()
) -> str:
    """Content hash that names a prompt, the same on every machine and in every run.

    Args:
        prompt: the text, or None for a chat prompt.
        messages: the chat turns.
        responses: given responses that belong to the row, in order; none names the prompt alone.

    Returns:
        16 hexadecimal digits of SHA-256 over the content's canonical JSON.
    """
    content: Any = prompt if prompt is not None else [[m["role"], m["content"]] for m in messages]
    if responses:
        content = {"prompt": content, "responses": list(responses)}
    return _hashed(content)


def labelled_id(example_id: str, pairs: Iterable[Sequence[int]], scores: Iterable[float]) -> str:
    """Content hash of an example together with its labels, in the form of `prompt_id`.

    Args:
        example_id: names the prompt and the responses.
        pairs: (chosen, rejected) as indices into the responses; their order says nothing.
        scores: one for each response, NaN where there is none.
    """
    numbers = [float(score) + 0.0 if math.isfinite(score) else None for score in scores]  # -0.0 becomes 0.0
    labels = sorted([int(chosen), int(rejected)] for chosen, rejected in pairs)
    return _hashed({"example": example_id, "pairs": labels, "scores": numbers})


def _hashed(content: Any) -> str:
    canonical = json.dumps(content, ensure_ascii=False, separators=(",", ":"))
    return hashlib.sha256(canonical.encode()).hexdigest()[:16]


def pair_id(prompt_id: str, chosen: int, rejected: int) -> str:
    """The path that names one pair: `<prompt_id>/<chosen>><rejected>`, candidate indices."""
    return f"{prompt_id}/{chosen}>{rejected}"
