"""What an evaluation's page and summary say, also before it is measured."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from xml.etree import ElementTree

import pytest

from rayflow.report.evaluation import cards, content, lead, notes, page, write_evaluation
from tests.report import evaluation_example as example


@pytest.fixture(scope="module")
def data():
    return example.finished()


def test_a_finished_evaluation_shows_every_section(data):
    text = page(data)
    assert text.count("<figure>") == 4 and "Not there yet" not in text and "<script" not in text
    for drawing in re.findall(r"<svg.*?</svg>", text, re.S):
        assert ElementTree.fromstring(drawing).get("aria-label")
    for words in (
        "Win rates",
        "At equal length",
        "Median",
        "Self-BLEU",
        "nats</b>",
        "Wins that go to the response",
    ):
        assert words in text
    picked = re.search(r'<tr class="picked"><th scope="row">(\w+)', text).group(1)
    assert picked == data.measures.side_by_side.reading == "distance"


def test_a_policy_that_wins_by_length_too_wins_less_at_equal_length(data):
    for measure in data.measures.rewards.values():
        assert 0.5 < measure.length_controlled.win_rate < measure.win_rate.win_rate
        assert measure.length_controlled.slope > 0


def test_the_summary_holds_the_numbers_and_nothing_that_json_cannot(data, tmp_path):
    write_evaluation(data, tmp_path)
    stored = json.loads((tmp_path / "summary.json").read_text())
    assert stored == json.loads(json.dumps(content(data)))
    assert stored["kl"]["nats"] == data.measures.kl.nats and stored["reward_titles"]["gold"] == "rule"
    assert list(stored["rewards"]) == ["proxy", "gold"]
    assert stored["side_by_side"]["scaled"]["win"] > stored["side_by_side"]["distance"]["win"]


def test_what_a_reader_must_know_follows_from_the_numbers(data):
    found = " ".join(notes(data))
    assert "The judge favours what it is shown first" in found and "hold no verdict" in found
    assert "were cut at the length limit" in found and "2 rows left out" in found
    assert "The policy's responses are" in found and "too narrow" not in found
    few = example.finished(12)
    assert any("12 prompts the intervals are too narrow" in note for note in notes(few))
    titles = ["Win rate, proxy", "At equal length", "Judge's win rate", "KL from the SFT policy"]
    assert [card.title for card in cards(data)] == titles
    assert "by this judge it is better" in lead(data)


def test_a_policy_that_no_longer_stops_is_told(data):
    cut = replace(data, policy_cut=0.9, baseline_cut=0.5)
    assert "50.0% and 90.0% were cut at max_tokens" in page(cut)
    (note,) = (note for note in notes(cut) if "stops by itself less often" in note)
    assert note.endswith("of the reward that training selects by, so that it prefers responses that end.")
    assert note.startswith("90.0% of quickstart's") and "50.0% of the SFT policy's" in note
    assert content(cut)["policy_cut"] == 0.9
    for fine in (data, replace(data, policy_cut=0.52, baseline_cut=0.5), replace(data, policy_cut=0.04)):
        assert not any("stops by itself" in note for note in notes(fine))


def test_an_evaluation_by_a_judge_alone_leads_with_the_judge(data):
    alone = replace(data, rewards={}, values={}, lengths=None, samples=None)
    alone = replace(alone, measures=replace(data.measures, rewards={}))
    assert "by the judge, ties half" in lead(alone) and cards(alone)[0].title == "Judge's win rate"
    assert "Win rates" not in page(alone)


def test_an_unfinished_evaluation_says_what_is_missing(data):
    begun = replace(
        data, measures=None, values={}, lengths=None, log_ratios=None, samples=None, failures=(), timings=()
    )
    text = page(begun)
    assert text.count("Not there yet") == 5 and "not been compared" in lead(begun)
    assert [card.value for card in cards(begun)[:3]] == [None] * 3
    assert content(begun)["rewards"] is None and notes(begun) == []
