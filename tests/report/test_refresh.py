"""The page and the numbers of a refresh."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest

from rayflow.refresh.gate import Verdict
from rayflow.report.data import FailureCount
from rayflow.report.refresh import PastVersion, RefreshReport, content, lead, page, write_refresh_report

BAD = "<script>alert(1)</script>"


def past(version: int, promoted: bool = True, **more) -> PastVersion:  # noqa: ANN003
    known = {
        "date": f"2026-11-{version:02d}",
        "rows": 900 + 20 * version,
        "pairs": 3600 + 80 * version,
        "computed": 60,
        "failed": version % 3,
        "reward": 0.5 + 0.01 * version,
        "reward_low": 0.48 + 0.01 * version,
        "reward_high": 0.52 + 0.01 * version,
        "readable": version > 3,
    }
    return PastVersion(version=version, promoted=promoted, **known | more)


def example(held_back: bool = True) -> RefreshReport:
    """Nine versions, of which the sixth and, if asked, the last were held back."""
    rng = np.random.default_rng(0)
    checks = [
        Verdict("min_rows", "whole", 1080.0, 1.0, 0.0, True),
        Verdict("max_failure_rate", "whole", 0.003, 0.05, 0.0, True),
        Verdict("max_reward_shift", "whole", 0.12, 0.5, 0.02, True),
        Verdict("max_length_drift", "fresh", 0.04, 0.3, None, True),
    ]
    if held_back:
        reason = "The mean reward of the new rows moved by 1.80 standard deviations since version 8; at most 0.500."
        checks.append(Verdict("max_reward_shift", "fresh", 1.8, 0.5, 0.1, False, reason))
    history = [past(v, v not in ({6, 9} if held_back else {6})) for v in range(1, 10)]
    return RefreshReport(
        name="preferences",
        date="2026-11-09",
        created=datetime(2026, 11, 9, 2, 15, tzinfo=UTC),
        version=9,
        promoted=not held_back,
        latest=8 if held_back else 9,
        baseline=8,
        policy="SmolLM2-135M-Instruct-1a2b3c4d5e6f",
        reward="rule (compound)",
        outcome=(
            ("read from the data", 1104),
            ("dropped: near-duplicate prompt", 24),
            ("carried over", 1020),
            ("computed: new prompt", 60),
            ("of those, failed", 3),
        ),
        checks=tuple(checks),
        rewards=(rng.normal(0.58, 0.2, 5000), rng.normal(0.5, 0.25, 5000)),
        tokens=(rng.integers(10, 48, 5000), rng.integers(12, 48, 5000)),
        history=tuple(history),
        failures=(
            FailureCount(stage="sample", reason="prompt longer than the context", count=3, example="x"),
        ),
        config_yaml="name: preferences\n",
        versions={"deltalake": "1.6.6"},
    )


def test_the_reasons_stand_first_and_readers_are_told_what_they_have() -> None:
    report = example()
    text = page(report)
    assert text.index("Why version 9 was held back") < text.index("What became of the prompts")
    assert report.reasons[0] in text
    assert lead(report).endswith("1 check failed. Readers stay with version 8.")
    assert "<dd>version 8</dd>" in text and "2 h" not in lead(report)
    good = example(held_back=False)
    assert "Why version" not in page(good) and "is what readers get" in lead(good)
    first = replace(report, latest=None, baseline=None, history=report.history[-1:])
    assert "Readers have no version yet." in lead(first) and "no promoted version to compare" in page(first)


def test_every_drawing_is_well_formed_and_every_version_is_in_the_history() -> None:
    text = page(example())
    drawings = re.findall(r"<svg.*?</svg>", text, re.DOTALL)
    assert len(drawings) == 4
    for drawing in drawings:
        ElementTree.fromstring(drawing)
    assert all(
        f'<th scope="row">{version}</th><td>2026-11-{version:02d}</td>' in text for version in range(1, 10)
    )
    assert text.count("held back</td>") == 2 and text.count("data removed") == 3
    assert "1.80" in text and "too few" in text


def test_the_numbers_are_strict_json(tmp_path: Path) -> None:
    odd = past(9, reward=None, reward_low=None, reward_high=float("nan"))
    report = replace(example(), history=(past(8), odd))
    write_refresh_report(report, tmp_path)
    text = (tmp_path / "summary.json").read_text()
    found = json.loads(text, parse_constant=lambda name: pytest.fail(f"{name} is not JSON"))
    assert found["outcome"]["carried over"] == 1020 and found["reasons"] == list(report.reasons)
    assert found["history"][1]["reward_high"] is None and found["checks"][4]["passed"] is False
    assert "rewards" not in found and content(report)["version"] == 9


def test_names_and_reasons_cannot_plant_markup() -> None:
    bad = replace(
        example(),
        name=BAD,
        policy=BAD,
        reward=BAD,
        date=BAD,
        outcome=((BAD, 1),),
        checks=(Verdict(BAD, "whole", 1.0, 1.0, 0.0, False, BAD),),
        history=(past(9, date=BAD), past(8, date=BAD)),
        failures=(FailureCount(stage=BAD, reason=BAD, count=1, example=BAD),),
        config_yaml=BAD,
        versions={BAD: BAD},
    )
    text = page(bad)
    assert "<script" not in text and "&lt;script&gt;" in text
    assert not re.search(r"https?://|@import|url\(|<link|<img", text)
