"""What a reward model's page and summary say, also before it is measured."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from xml.etree import ElementTree

import pytest

from rayflow.report.data import FailureCount
from rayflow.report.reward import cards, content, lead, notes, page, write_reward_report
from tests.report import reward_example as example


@pytest.mark.parametrize(("kind", "drawings"), [("classifier", 4 + 5), ("ranker", 3 + 3)])
def test_a_finished_training_shows_every_section(kind, drawings):
    data = example.finished(kind)
    text = page(data)
    assert text.count("<figure>") == drawings and "Not there yet" not in text
    for drawing in re.findall(r"<svg.*?</svg>", text, re.S):
        assert ElementTree.fromstring(drawing).get("aria-label")
        assert "nan" not in re.sub(r"<title>.*?</title>", "", drawing).lower()
    for words in (
        "Reliability",
        "Preference for the longer response",
        f"{{kind: {kind}, model: {data.trained}}}",
    ):
        assert words in text


def test_the_reliability_diagram_has_a_point_for_every_bin_that_holds_pairs():
    data = example.finished("ranker", num_pairs=12)
    drawing = re.search(r'<svg[^>]*aria-label="Reliability.*?</svg>', page(data), re.S).group()
    filled = [each for each in data.quality.bins if each.count]
    assert drawing.count("<circle") == drawing.count('class="line raw after"') == len(filled) < 10


def test_the_summary_holds_the_numbers_and_nothing_that_json_cannot(tmp_path):
    data = example.finished("ranker")
    write_reward_report(data, tmp_path)
    stored = json.loads((tmp_path / "summary.json").read_text())
    assert stored == json.loads(json.dumps(content(data)))
    found = stored["evaluation"]
    assert found["accuracy"] == data.quality.accuracy and len(found["bins"]) == 10
    assert found["length"]["score_pearson"] is None
    assert stored["training"]["last_step"] == 200 and stored["total_seconds"] == pytest.approx(988.7)


def test_what_a_reader_must_know_depends_on_the_numbers():
    few = example.finished("classifier", num_pairs=20)
    assert any("too narrow" in note for note in notes(few))
    many = example.finished("classifier")
    gap = many.quality.length.accuracy_longer - many.quality.length.accuracy_shorter
    assert gap > 0.1 and any(note.startswith("Length:") for note in notes(many))
    fair = replace(many.quality.length, accuracy_longer=0.7, accuracy_shorter=0.7)
    assert not any(
        n.startswith("Length:") for n in notes(replace(many, quality=replace(many.quality, length=fair)))
    )
    assert any("3 rows left out" in note for note in notes(many))
    assert "percentage points" in lead(many)
    coin = replace(many.quality, accuracy=0.51, low=0.47, high=0.55)
    assert "does not show that it has learned anything" in lead(replace(many, quality=coin))


def test_markup_in_names_and_failures_stays_text():
    bad = "<script>alert(1)</script>"
    failure = FailureCount(stage=bad, reason=bad, count=1, example=bad)
    hostile = {"name": bad, "model": bad, "trained": bad, "config_yaml": bad, "versions": {bad: bad}}
    text = page(replace(example.finished(), failures=(failure,), **hostile))
    assert "<script" not in text and text.count("&lt;script&gt;") >= 6


def test_an_unfinished_training_says_what_is_missing():
    data = replace(example.finished(), quality=None, pairs=None, training=None, trained=None)
    text = page(data)
    assert text.count("Not there yet") == 2 and "not been measured" in lead(data)
    assert [card.value for card in cards(data)[:3]] == [None] * 3
    assert content(data)["evaluation"] is None
