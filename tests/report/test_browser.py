"""The page in a real browser: it renders, and a planted script does not run."""

import re
import shutil
import subprocess
import zlib
from pathlib import Path

import pytest

from rayflow.report.diagnose import write_diagnosis
from rayflow.report.refresh import write_refresh_report
from rayflow.report.render import write_report
from rayflow.study.page import write as write_study
from tests.report import report_example as example
from tests.report import test_diagnose as diagnosis
from tests.report import test_refresh as refresh
from tests.study import example as study

pytestmark = pytest.mark.browser

_NAMES = ("chromium", "chromium-browser", "google-chrome")


@pytest.fixture
def browser(tmp_path):
    """Runs headless Chromium with more arguments and returns its standard output."""
    program = next((path for name in _NAMES if (path := shutil.which(name))), None)
    if program is None:
        pytest.skip(f"no Chromium on this machine: none of {', '.join(_NAMES)} is installed")
    flags = "--headless --no-sandbox --disable-gpu --hide-scrollbars --no-first-run --disable-sync"
    flags += " --disable-background-networking --disable-component-update --window-size=1200,3000"

    def run(*arguments: str) -> str:
        command = [program, *flags.split(), f"--user-data-dir={tmp_path / 'profile'}", *arguments]
        return subprocess.run(command, capture_output=True, text=True, timeout=120, check=True).stdout

    return run


def inked(png: Path) -> float:
    """Share of the PNG's filtered bytes that are not zero: next to nothing for a page of one colour."""
    content, position, data = png.read_bytes(), 8, b""
    while position < len(content):
        length = int.from_bytes(content[position : position + 4], "big")
        if content[position + 4 : position + 8] == b"IDAT":
            data += content[position + 8 : position + 8 + length]
        position += length + 12
    raw = zlib.decompress(data)
    return 1 - raw.count(0) / len(raw)


def test_the_page_renders_and_the_planted_script_does_not_run(browser, tmp_path):
    page = write_report(example.finished(), tmp_path / "report")
    shot = tmp_path / "page.png"
    document = browser(f"--screenshot={shot}", "--dump-dom", page.as_uri())
    if not document:  # some versions do only one of the two in one start
        document = browser("--dump-dom", page.as_uri())
    assert re.search(r"<title>sentiment-rso-64-to-8 · rayflow report</title>", document)
    assert document.count("<figure>") == 12
    assert "<script" not in document
    if not shot.exists():
        browser(f"--screenshot={shot}", page.as_uri())
    assert inked(shot) > 0.01


def test_a_diagnosis_renders(browser, tmp_path):
    page = write_diagnosis(diagnosis.example(), diagnosis.SUBJECT, tmp_path / "diagnosis")
    shot = tmp_path / "page.png"
    document = browser(f"--screenshot={shot}", "--dump-dom", page.as_uri())
    if not document:
        document = browser("--dump-dom", page.as_uri())
    assert document.count("<figure>") == 3 and "<title>demo · rayflow diagnose</title>" in document
    if not shot.exists():
        browser(f"--screenshot={shot}", page.as_uri())
    assert inked(shot) > 0.01


def test_a_refresh_renders(browser, tmp_path):
    page = write_refresh_report(refresh.example(), tmp_path / "refresh")
    shot = tmp_path / "page.png"
    document = browser(f"--screenshot={shot}", "--dump-dom", page.as_uri())
    if not document:
        document = browser("--dump-dom", page.as_uri())
    assert document.count("<figure>") == 4 and "<title>preferences · rayflow refresh</title>" in document
    if not shot.exists():
        browser(f"--screenshot={shot}", page.as_uri())
    assert inked(shot) > 0.01


def test_a_study_renders(browser, tmp_path):
    page, _ = write_study(study.made_up(), tmp_path / "study")
    shot = tmp_path / "page.png"
    document = browser(f"--screenshot={shot}", "--dump-dom", page.as_uri())
    if not document:
        document = browser("--dump-dom", page.as_uri())
    assert document.count("<figure>") == 3 and "<title>made-up · rayflow study</title>" in document
    assert document.count('<th scope="row">RSO, gamma 5</th>') == 1
    if not shot.exists():
        browser(f"--screenshot={shot}", page.as_uri())
    assert inked(shot) > 0.01
