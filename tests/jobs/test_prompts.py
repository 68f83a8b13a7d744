"""The demonstration's prompts: parsed by the product's own reader, varied, and held out where they should be."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from rayflow.core.ids import prompt_id

PROMPTS = Path(__file__).parents[2] / "jobs" / "prompts"
SIZES = {"sentiment-train": 64, "sentiment-eval": 64, "study-train": 100, "study-eval": 128}


def contents(name: str) -> list[str]:
    """The prompts' texts; every line must be exactly one user turn."""
    lines = (PROMPTS / f"{name}.jsonl").read_text(encoding="utf-8").splitlines()
    rows = [json.loads(line) for line in lines]
    assert all(list(row) == ["messages"] and len(row["messages"]) == 1 for row in rows)
    turns = [row["messages"][0] for row in rows]
    assert all(set(turn) == {"role", "content"} and turn["role"] == "user" for turn in turns)
    return [turn["content"] for turn in turns]


def words(text: str) -> frozenset[str]:
    return frozenset(re.findall(r"[a-z]+", text.lower()))


@pytest.mark.parametrize("name", SIZES)
def test_every_prompt_is_one_short_request_for_a_short_answer(name):
    texts = contents(name)
    assert len(texts) == SIZES[name]
    for text in texts:
        assert text == text.strip()
        assert 40 <= len(text) <= 200, text
        assert re.search(r"one|two|three|short|brief", text), text


def test_no_prompt_is_repeated_within_or_between_the_files():
    ids = [prompt_id(None, [{"role": "user", "content": t}]) for name in SIZES for t in contents(name)]
    assert len(set(ids)) == sum(SIZES.values())


def test_no_prompt_is_another_one_with_a_word_or_two_changed():
    texts = [text for name in SIZES for text in contents(name)]
    for i, first in enumerate(texts):
        for second in texts[:i]:
            shared = len(words(first) & words(second)) / len(words(first) | words(second))
            assert shared < 0.8, (first, second)
