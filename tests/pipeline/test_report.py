"""What the report says of a run's parts."""

from __future__ import annotations

from typing import Any

from rayflow.core.options import KindOptions
from rayflow.pipeline.report import title


class Extended(KindOptions):
    """A plug-in's settings, whose identity also says what a file of its own holds."""

    kind: str = "plug_in:Extended"
    words: str = "few"
    limit: int = 3

    def identity(self) -> dict[str, Any]:
        return {**super().identity(), "content": "abc", "rows": 7, "parts": ["a"]}


def test_a_plug_in_that_says_more_than_its_settings_is_named_with_it() -> None:
    assert title(Extended()) == "Extended (limit 3, content abc, rows 7)"
    assert title(Extended(words="many")) == "Extended (words many, limit 3, content abc, rows 7)"
