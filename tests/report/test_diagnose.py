"""The page, the numbers and the tables of a diagnosis."""

import io
import json
import re
from dataclasses import fields, replace
from datetime import UTC, datetime
from xml.etree import ElementTree

import numpy as np
import pytest
from rich.console import Console

from rayflow.evaluation.diagnose import Sample, Settings, diagnose
from rayflow.evaluation.diagnosis import Diagnosis
from rayflow.report import words
from rayflow.report.diagnose import Subject, command, content, digits, lead, notes, page, write_diagnosis
from rayflow.report.plane import log_ticks, powers
from rayflow.report.terminal import print_diagnosis

SUBJECT = Subject(
    name="demo",
    created=datetime(2026, 1, 2, 3, 4, tzinfo=UTC),
    model="SmolLM2",
    sampling="64 candidates, temperature 0.7",
    reward="rule (sentiment)",
)


def example(scale: float = 1.0, num_prompts: int = 200, **settings) -> Diagnosis:
    """64 candidates with Gaussian rewards, and the four highest taken by every beta."""
    rng = np.random.default_rng(0)
    rewards = scale * rng.normal(size=(num_prompts, 64))
    lengths = rng.integers(5, 50, rewards.shape)
    sample = Sample(rewards=rewards, lengths=lengths, texts=np.tile(np.arange(64), (num_prompts, 1)))

    def rule(values, beta):
        return list(np.argsort(-values, axis=1)[:, :8]), np.full(len(values), 2)

    return diagnose(lambda: [rewards], num_prompts, sample, rule, Settings(**{"num_accepted": 8} | settings))


@pytest.fixture(scope="module")
def found() -> Diagnosis:
    return example(own_beta=0.5, own_kind="rejection", own_accepted=8)


def printed(diagnosis: Diagnosis) -> str:
    text = io.StringIO()
    print_diagnosis(diagnosis, Console(file=text, width=160))
    return text.getvalue()


def test_the_recommendation_stands_in_the_lead_the_table_and_the_drawing(found):
    text = page(found, SUBJECT)
    assert lead(found).startswith(f"With beta {found.recommended:g} the target policy stays within 1.04 nats")
    assert f'<tr class="picked"><th scope="row">{found.recommended:g}</th>' in text
    assert '<th scope="row">0.5 (this run)</th>' in text
    assert text.count('class="ring"') == 1
    assert f">beta {found.recommended:g}</text>" in text
    row = next(line for line in printed(found).splitlines() if "→" in line)
    assert row.split()[1] == f"{found.recommended:g}" and f"{found.choice.kl.mean:.2f}" in row


def test_page_and_terminal_end_with_the_command_that_selects(found):
    named = replace(SUBJECT, folder="runs/my run")
    expected = f"rayflow select &#39;runs/my run&#39; --beta {found.recommended:g}</pre>"
    assert expected in page(found, named).split('id="length"')[1]
    assert printed(found).rstrip().endswith(f"rayflow select RUN --beta {found.recommended:g}")
    without = replace(found, own_beta=None)  # a run whose rule has no beta gets a rule that has
    wanted = f"--set 'select={{kind: rejection, beta: {found.recommended:g}, num_accepted: 8}}'"
    assert printed(without).rstrip().endswith(wanted)


def test_the_command_selects_as_many_as_were_diagnosed(found):
    told = command(replace(found, num_accepted=4), "RUN")
    assert told == f"rayflow select RUN --beta {found.recommended:g} --num-accepted 4"


@pytest.mark.parametrize(
    ("kind", "told"),
    [
        ("rejection", "rayflow select RUN --beta 0"),
        ("gumbel", "rayflow select RUN --set 'select={kind: rejection, beta: 0, num_accepted: 8}'"),
    ],
)
def test_a_rule_that_has_no_beta_of_zero_is_not_given_one(found, kind, told):
    assert command(replace(found, own_kind=kind, recommended=0.0), "RUN") == told


def test_the_acceptance_is_called_what_it_is(found):
    text = page(found, SUBJECT)
    assert "Acceptance rate" not in text and "<h2>Expected acceptance</h2>" in text


def test_every_drawing_is_well_formed_and_holds_its_numbers(found):
    drawings = re.findall(r"<svg.*?</svg>", page(found, SUBJECT), re.S)
    assert len(drawings) == 3
    for drawing in drawings:
        assert ElementTree.fromstring(drawing).get("aria-label")
        assert "nan" not in drawing.lower() and "inf" not in drawing.lower()
    plane, shares, _ = drawings
    assert plane.count("<rect") == len(found.best_of)
    assert plane.count("<circle class") == len(found.points) + 2  # the SFT policy, and the ring
    assert f"KL at most {words.number(found.best_of[-1].kl_bound)}" in plane
    assert shares.count("<circle class") == sum(point.beta > 0 for point in found.points)


def test_the_table_fits_a_terminal_of_eighty_characters(found):
    text = io.StringIO()
    print_diagnosis(found, Console(file=text, width=80))
    rows = text.getvalue().splitlines()[: len(found.points) + 2]
    assert rows[0].split()[0] == "beta" and rows[1].split()[0] == "SFT"
    assert [row.strip().removeprefix("→").split()[0] for row in rows[2:]] == [
        f"{p.beta:g}" for p in found.points
    ]


def test_what_cannot_be_trusted_is_marked_everywhere(found):
    untrusted = [point for point in found.points if not point.trusted]
    assert untrusted and found.choice.trusted
    assert page(found, SUBJECT).count(" *</td>") == len(untrusted)
    assert 'class="line after weak"' in page(found, SUBJECT)
    assert "effective sample size below 10" in printed(found)
    assert not any("carry the weight" in note and "sample more" in note for note in notes(found))
    greedy = example(kl_budget=9.0)
    assert any("sample more candidates" in note for note in notes(greedy))
    assert any("does not bind" in note for note in notes(greedy))
    assert "budget 9" not in re.findall(r"<svg.*?</svg>", page(greedy, SUBJECT), re.S)[0]


def test_a_lone_beta_and_beta_zero_still_make_a_page():
    for settings in ({"betas": (0.5,), "kl_budget": 9.0}, {"betas": (0.0,), "kl_budget": 9.0}):
        text = page(example(**settings), SUBJECT)
        assert "nan" not in "".join(re.findall(r"<svg.*?</svg>", text, re.S)).lower()


def test_length_is_mentioned_only_where_it_matters(found):
    assert not any(note.startswith("Length") for note in notes(found))
    longer = replace(found.length, spearman_within=replace(found.length.spearman_within, mean=0.4))
    assert any("rank correlation" in note for note in notes(replace(found, length=longer)))
    tokens = replace(found.choice.outcome.tokens, mean=1.3 * found.sft.outcome.tokens.mean)
    stretched = replace(found.choice, outcome=replace(found.choice.outcome, tokens=tokens))
    points = tuple(stretched if p == found.choice else p for p in found.points)
    assert any(note.startswith("Length") for note in notes(replace(found, points=points)))


def test_the_numbers_are_strict_json_with_every_field(found, tmp_path):
    path = write_diagnosis(found, SUBJECT, tmp_path / "new")
    assert path == tmp_path / "new" / "diagnose.html"
    text = (tmp_path / "new" / "diagnose.json").read_text()
    data = json.loads(text, parse_constant=lambda name: pytest.fail(f"{name} is not JSON"))
    assert {field.name for field in fields(Diagnosis)} <= set(data)
    assert data["sft"]["beta"] is None
    assert data["points"][0]["reward"] == vars(found.points[0].reward)
    assert data["recommended"] == found.recommended and data["name"] == "demo"
    assert data["created"] == "2026-01-02T03:04:00+00:00"
    undefined = replace(found.length, pearson=float("nan"))
    assert content(replace(found, length=undefined), SUBJECT)["length"]["pearson"] is None


def test_names_cannot_plant_markup(found):
    bad = "<script>1</script>"
    planted = replace(SUBJECT, name=bad, model=bad, sampling=bad, reward=bad)
    text = page(found, planted)
    assert "<script" not in text and "&lt;script&gt;" in text
    assert not re.search(r"https?://|@import|url\(|<link|<img", text)


@pytest.mark.parametrize(("scale", "expected"), [(1e-4, 6), (0.1, 3), (1.0, 2), (1000.0, 0)])
def test_rewards_have_the_decimals_that_tell_betas_apart(scale, expected):
    assert digits(example(scale, num_prompts=40)) == expected


def test_fixed_decimals_know_no_negative_zero():
    assert [words.fixed(value, 2) for value in (-1e-18, -0.126, 1234.5, float("nan"))] == [
        "0.00",
        "−0.13",
        "1,234.50",
        "–",
    ]


def test_logarithmic_ticks_are_round_values():
    assert powers(log_ticks(-1.35, 0.35)) == ["0.05", "0.1", "0.2", "0.5", "1", "2"]
    assert powers(log_ticks(-3.0, 1.0)) == ["0.001", "0.01", "0.1", "1", "10"]
