"""The rating page: what it holds, and what a rater does with it in a real browser."""

from __future__ import annotations

import json
import re
import time

import pytest

from rayflow.report.human import Task, rating_page
from tests.report.devtools import Page

ATTACK = '</script><script>window.broken = 1</script><img src=x onerror="window.broken = 2">'
TASKS = [
    Task("t001", "Describe a rainy day.", ("Rain drummed on the roof.", ATTACK)),
    Task("t002", ATTACK, ("Two lines\nof text", "   ")),
    Task("t003", "Name a planet. {{ 7 * 7 }}", ("Jupiter is the largest planet.", "Mars")),
]


def test_what_a_model_wrote_is_text_and_nothing_is_fetched():
    page = rating_page(TASKS, "abc123", "Read <this>.")
    assert page.count("<script") == 1 and "onerror=&#34;" in page and "Read &lt;this&gt;." in page
    assert "{{ 7 * 7 }}" in page and "<em>empty response</em>" in page
    assert re.search(r"(src|href)\s*=", page.replace("src=x onerror", "").replace("link.href", "")) is None
    policy = re.search(r'Content-Security-Policy" content="([^"]+)"', page).group(1)
    assert policy.startswith("default-src 'none'") and "script-src 'sha256-" in policy


def test_every_choice_has_a_label_and_every_group_a_name():
    page = rating_page(TASKS, "abc123")
    inputs = re.findall(r"<input[^>]*>", page)
    assert len(inputs) == 3 * (2 * 5 + 3) + 2
    assert page.count("<label") == len(inputs) + 3 and page.count("<legend>") == page.count("<fieldset") == 9
    for task in re.findall(r'<section class="task".*?</section>', page, re.S):
        names = re.findall(r' name="([^"]+)"', task)
        assert len(set(names)) == 3
    assert 'role="status" aria-live="polite"' in page and '<html lang="en">' in page


@pytest.fixture
def browse(tmp_path):
    """Opens the page, also again with the same profile."""
    path, opened = tmp_path / "rating.html", []
    path.write_text(rating_page(TASKS, "abc123"))
    (tmp_path / "downloads").mkdir()

    def start(profile: str = "profile") -> Page:
        page = Page(tmp_path / profile, tmp_path / "downloads")
        opened.append(page)
        page.open(path.as_uri())
        return page

    yield start
    for page in opened:
        page.close()


def saved(folder, name):
    """The file that the page saved, once it is whole."""
    deadline = time.monotonic() + 20
    while not (folder / name).exists():
        assert time.monotonic() < deadline, sorted(p.name for p in folder.iterdir())
        time.sleep(0.05)
    return json.loads((folder / name).read_text())


SHOWN = "[...document.querySelectorAll('.task')].filter(t => !t.hidden).map(t => t.id).join()"
COUNT = "document.getElementById('count').textContent"


@pytest.mark.browser
def test_a_rater_works_by_keys_alone_and_saves_a_file(browse, tmp_path):
    page = browse()
    assert page.run("window.broken") is None and page.run("document.images.length") == 0
    assert page.run(SHOWN) == "t001" and page.run(COUNT) == "0 of 3 tasks finished"
    page.press("4 2 a")  # response A: 4, B: 2, A is best
    assert page.run(COUNT) == "1 of 3 tasks finished"
    assert "Best: Response A" in page.run("document.getElementById('said').textContent")
    page.press("j")
    assert page.run(SHOWN) == "t002"
    assert page.run("document.activeElement.textContent") == "Task 2 of 3"
    page.press("3 3 n j 5")
    assert page.run(COUNT) == "2 of 3 tasks finished" and page.run(SHOWN) == "t003"
    page.run("document.getElementById('save').click()")
    assert "Enter your name" in page.run("document.getElementById('said').textContent")
    assert page.run("document.activeElement.id") == "rater"
    page.type("Ann 4 B")  # keys typed here are text, no shortcuts
    assert page.run(SHOWN) == "t003" and page.run(COUNT) == "2 of 3 tasks finished"
    page.run("document.getElementById('save').click()")
    data = saved(tmp_path / "downloads", "answers-Ann-4-B.json")
    assert (data["export"], data["rater"], data["format"]) == ("abc123", "Ann 4 B", 1)
    assert data["answers"] == [
        {"task": "t001", "quality": [4, 2], "best": "A", "comment": ""},
        {"task": "t002", "quality": [3, 3], "best": "none", "comment": ""},
        {"task": "t003", "quality": [5, None], "best": None, "comment": ""},
    ]
    assert "2 of 3 finished" in page.run("document.getElementById('said').textContent")
    requested = [
        e["params"]["request"]["url"] for e in page.events if e["method"] == "Network.requestWillBeSent"
    ]
    assert {url.split(":")[0] for url in requested} <= {"file", "blob"}
    assert [e for e in page.events if e["method"] == "Runtime.exceptionThrown"] == []


@pytest.mark.browser
def test_answers_are_there_again_when_the_page_is_opened_again(browse):
    page = browse()
    page.press("1 5 b j 2")
    page.run("document.querySelector('#t002 textarea').focus()")
    page.type("hard to say 5 n")
    page.close()
    again = browse()
    assert again.run(SHOWN) == "t002" and again.run(COUNT) == "1 of 3 tasks finished"
    checked = "[...document.querySelectorAll('.task input:checked')].map(i => i.name + i.value).join(' ')"
    assert again.run(checked).split() == ["t001-A1", "t001-B5", "t001-bestB", "t002-A2"]
    assert again.run("document.querySelector('#t002 textarea').value") == "hard to say 5 n"
    for words in (
        "Really delete all answers?",
        "Start over",
    ):  # the second press deletes, and the page begins anew
        again.events = []
        again.run("document.getElementById('clear').click()")
        if words == "Start over":
            again.wait("Page.loadEventFired")
        assert again.run("document.getElementById('clear').textContent") == words
    assert again.run(COUNT) == "0 of 3 tasks finished" and again.run(SHOWN) == "t001"
    other = browse("another-profile")
    assert other.run(COUNT) == "0 of 3 tasks finished"


@pytest.mark.browser
def test_the_mouse_and_corrections_work_and_shortcuts_can_be_turned_off(browse):
    page = browse()
    page.run("document.querySelector('#t001 input[name=t001-B][value=\"3\"]').click()")
    page.press("5")  # the first response without a rating
    quality = (
        "JSON.stringify(['A','B'].map(x => document.querySelector(`input[name=t001-${x}]:checked`)?.value))"
    )
    assert json.loads(page.run(quality)) == ["5", "3"]
    page.press("u")
    assert json.loads(page.run(quality)) == [None, None]
    page.run("document.getElementById('shortcuts').click()")
    page.press("4 j")
    assert json.loads(page.run(quality)) == [None, None] and page.run(SHOWN) == "t001"
    page.run("document.getElementById('next').click()")
    assert page.run(SHOWN) == "t002"
