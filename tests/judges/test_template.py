"""Template files: what comes with the package, and one's own."""

from __future__ import annotations

import pytest

from rayflow.errors import ConfigError
from rayflow.judges.template import load_template, names
from rayflow.judges.verdict import parse_verdict


def test_three_templates_come_with_the_package():
    assert names() == ["generic", "helpfulness", "summarization"]


@pytest.mark.parametrize("name", names())
def test_a_template_explains_shows_every_verdict_and_ends_where_the_judge_begins(name):
    template = load_template(name)
    text = template.fill("THE PROMPT", "ONE", "TWO")
    *examples, task = text.split("Explanation:")[1:]
    assert sorted(parse_verdict(example) for example in examples) == [0.0, 0.5, 1.0]
    assert task == "" and not template.asks_at_once
    shown = text.rpartition("Now compare")[2]
    assert shown.index("THE PROMPT") < shown.index("ONE") < shown.index("TWO")
    assert "{" not in text


def test_braces_in_a_response_are_text():
    text = load_template("generic").fill("say {response_b}", "{context} {x}", "two")
    assert "say {response_b}" in text and "{context} {x}" in text


def test_ones_own_file_is_read_and_a_mistake_is_named(tmp_path):
    path = tmp_path / "mine.txt"
    path.write_text("{context}\nA: {response_a}\nB: {response_b}\nVerdict:\n")
    template = load_template(str(path))
    assert template.asks_at_once and template.fill("c", "a", "b") == "c\nA: a\nB: b\nVerdict:"
    assert template.digest != load_template("generic").digest
    path.write_text("{context} {response_a}")
    with pytest.raises(ConfigError, match=r"no place for \{response_b\}"):
        load_template(str(path))
    with pytest.raises(ConfigError, match="neither one of generic, helpfulness, summarization nor a file"):
        load_template("summarisation")
