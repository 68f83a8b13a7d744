"""A study's page: what it says, and that it can be made from its study.json alone."""

from __future__ import annotations

import json
import re
from xml.etree import ElementTree

import pytest
from typer.testing import CliRunner

from rayflow.cli.app import app
from rayflow.errors import ArtifactError
from rayflow.study.drawings import GROUPS, plane
from rayflow.study.found import restored
from rayflow.study.page import lead, notes, page, write
from rayflow.study.terms import terms
from tests.study import example


def test_the_page_shows_tables_drawings_the_order_and_the_notes_as_text():
    text = page(example.made_up())
    assert text.count("<figure>") == 3 and "<script" not in text
    for drawing in re.findall(r"<svg.*?</svg>", text, re.S):
        assert ElementTree.fromstring(drawing).get("aria-label")
    assert "What we make of it" in text and "The &lt;b&gt;order&lt;/b&gt; differs" in text
    assert "&#39;RSO&#39; over &#39;DPO, sft-sample-rank&#39;</th>" in text and "82.22% &gt; 78.14%" in text
    assert "71.0%" in text and "66.0% – 76.0%" in text


def test_what_was_found_comes_before_what_to_know_and_the_drawings():
    text = page(example.made_up({**example.CONFIG, "notes": ["Run `rayflow diagnose` <b>."]}))
    assert "Run <code>rayflow diagnose</code> &lt;b&gt;." in text
    places = [text.index(each) for each in ('class="cards"', 'id="opinions"', 'class="notes"', 'id="plane"')]
    assert places == sorted(places)
    links = re.findall(r'<a href="#(\w+)">', text)
    assert links == ["opinions", "plane", "tables", "sweeps", "paper"]
    assert set(links) <= set(re.findall(r'<section id="(\w+)"', text))


def test_a_pair_of_the_papers_is_said_to_differ_clearly_or_not_either_way():
    text = page(example.made_up())
    assert re.findall(r"<td>((?:not )?clearly the (?:same|other) way)</td>", text).count(
        "not clearly the other way"
    )
    assert "surely" not in text


def test_points_of_a_sweep_are_called_by_their_setting_and_the_legend_has_only_what_is_drawn():
    found = example.made_up()
    drawing = plane(found.config, found.rows, "gold")
    assert ">gamma 5</text>" in drawing.svg and ">gain in mean gold reward</text>" in drawing.svg
    assert "RSO 0.25 at 1.5" in drawing.svg
    assert "Another gamma is that of &#39;RSO&#39;" in page(found)
    assert [style for style, *_ in drawing.legend] == ["before triangle", "chosen square", "after circle"]
    assert len({(style, shape) for style, shape, _ in GROUPS.values()}) == len(GROUPS)
    assert len({shape for _, shape, _ in GROUPS.values()}) == len(GROUPS)


def test_names_of_the_paper_are_explained_where_they_stand_in_a_title():
    known = dict(terms(["DPO, direct", "sft-64, tournament"]))
    assert list(known) == ["direct", "sft-8, sft-64", "tournament"]
    assert terms(["RAFT", "directly"]) == []


def test_the_lead_names_the_best_row_and_what_is_missing():
    assert "'DPO, sft-sample-rank' wins most often" in lead(example.made_up())
    assert "7 of 12 rows and seeds are measured" in lead(example.made_up())


def test_the_notes_say_what_the_intervals_cover_and_what_differs_between_rows():
    text = " ".join(notes(example.made_up()))
    assert "another seed of selection, pairing and training" in text
    assert "11 to 12 optimizer steps; fewest: 'RSO, gamma 5'" in text
    assert "is 0.10 to 0.25, a mean over pairs" in text
    one = example.made_up({**example.CONFIG, "seeds": [1]})
    assert "With one seed they cover the choice of prompts only" in " ".join(notes(one))


@pytest.mark.parametrize("accuracy, said", [(0.64, True), (0.65, False), (0.8, False), (0.81, True)])
def test_a_proxy_outside_the_papers_range_is_remarked_on(accuracy, said):
    found = example.made_up(proxy={"accuracy": accuracy, "low": 0.6, "high": 0.9})
    assert ("outside 65% to 80%" in " ".join(notes(found))) is said


def test_a_study_json_gives_the_same_page_tables_and_json_again(tmp_path):
    write(example.made_up(), tmp_path / "one")
    write(restored(tmp_path / "one" / "study.json", []), tmp_path / "two")
    for name in ("study.html", "study.json", "tables.md"):
        assert (tmp_path / "one" / name).read_text() == (tmp_path / "two" / name).read_text()
    numbers = json.loads((tmp_path / "one" / "study.json").read_text())
    assert numbers["prompts"] == ["p0", "p1", "p2", "p3"] and len(numbers["results"]) == 7
    assert numbers["rows"]["sft"]["wins"]["gold"]["mean"] == 0.75


def test_the_command_renders_a_study_json_with_other_notes(tmp_path):
    write(example.made_up(), tmp_path)
    command = ["study", "report", str(tmp_path / "study.json"), "--set", "notes=[Because of the length.]"]
    done = CliRunner().invoke(app, command)
    assert done.exit_code == 0, done.output
    assert "Because of the length." in (tmp_path / "study.html").read_text()


def test_another_json_file_is_refused_by_name(tmp_path):
    (tmp_path / "study.json").write_text("{}")
    with pytest.raises(ArtifactError, match="study.json is no study.json of this version"):
        restored(tmp_path / "study.json", [])
