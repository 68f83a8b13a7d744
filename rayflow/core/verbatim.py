"""Text of others in lines that rich prints: paths, names, messages."""

from __future__ import annotations

from rich.markup import escape


def verbatim(value: object) -> str:
    """`value` as it is, in a line with rich's markup: a folder called `runs/[a]` is no style."""
    return escape(str(value))
