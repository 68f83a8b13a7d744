"""What the report says of a run's parts."""

from __future__ import annotations

from typing import Any

from rayflow.core.options import KindOptions
from rayflow.pairing.first_round import FirstRound
from rayflow.pipeline.report import title
from rayflow.selection.rejection import RejectionSampling


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


def test_numbers_are_told_but_for_a_zero_that_is_the_default() -> None:
    assert title(FirstRound.Config()) == "first_round"
    drawn = FirstRound.Config(labels="sample", temperature=0.5)
    assert title(drawn) == "first_round (labels sample, temperature 0.5)"
    assert title(RejectionSampling.Config()) == "rejection (num_accepted 8, beta 0.5)"
    assert title(RejectionSampling.Config(beta=0)) == "rejection (num_accepted 8, beta 0.0)"
