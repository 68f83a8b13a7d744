"""The parts of a run's page, and what it says of how responses ended."""

import re
from dataclasses import replace

import pytest

from rayflow.report import words
from rayflow.report.data import StageTiming
from rayflow.report.render import render
from rayflow.report.summary import notes, summary
from tests.report import report_example as example
from tests.report.test_report import bare, evaluated


def test_a_trained_model_that_no_longer_stops_is_told():
    data = replace(bare(), evaluation=evaluated(policy_cut=1.0, baseline_cut=0.5605))
    numbers = summary(data)["evaluation"]
    assert (numbers["policy_cut"], numbers["baseline_cut"]) == (1.0, 0.5605)
    (note,) = [note for note in notes(data) if "cut at" in note]
    assert note.startswith(
        "100.0% of the trained model's responses were cut at sample.max_tokens, against 56.0% of"
    )
    row = '<th scope="row">Cut at max_tokens</th><td>56.0%</td><td>100.0%</td><td>+44.0 points</td>'
    assert row in render(data)


@pytest.mark.parametrize(
    ("policy", "baseline", "told"),
    [(0.05, 0.0, False), (0.06, 0.0, True), (0.6, 0.56, False), (0.6, None, True), (None, None, False)],
)
def test_only_a_clearly_larger_share_of_cut_responses_is_told(policy, baseline, told):
    data = replace(bare(), evaluation=evaluated(policy_cut=policy, baseline_cut=baseline))
    assert any("cut at" in note for note in notes(data)) is told
    assert ("Cut at max_tokens" in render(data)) is (policy is not None)
    assert summary(data)["evaluation"]["policy_cut"] == policy


def test_the_acceptance_rate_says_what_it_is_a_share_of():
    page = render(example.finished())
    assert "of the candidates looked at; 4,788 kept of 38,400<" in page


def test_the_first_samples_are_open_and_the_others_behind_a_click():
    before, after = render(example.finished()).split('<details class="more">')
    assert before.count('<article class="sample">') == 4
    assert after.split("</details>")[0].count('<article class="sample">') == 8
    assert "8 more, drawn in the same way" in after


def test_every_link_of_the_page_leads_to_a_section():
    for data in (example.finished(), replace(example.finished(), not_part_of_run=("selection",))):
        page = render(data)
        links = re.findall(r'<a href="#(\w+)">', page)
        assert len(links) >= 6 and set(links) <= set(re.findall(r'<section id="(\w+)"', page))


def test_every_heading_of_a_table_says_what_it_heads():
    assert not re.search(r"<th(?! scope=\"(row|col)\")[ >]", render(example.finished()))


def test_a_partly_finished_run_says_how_to_go_on():
    page = render(replace(bare(), folder="runs/n"))
    assert "<code>rayflow run runs/n</code> goes on where it stopped" in page
    assert "goes on where" not in render(example.finished())


def test_a_reward_that_is_a_function_is_called_by_it():
    data = replace(example.finished(), reward="rule (function my.module:score)")
    assert "judged by the reward my.module:score." in render(data)
    assert "judged by the reward sentiment classifier." in render(example.finished())
    data = replace(data, reward="rule (function my.module:score, missing_eos_penalty 1.0)")
    assert "judged by the reward my.module:score (missing_eos_penalty 1.0)." in render(data)


def test_rewards_side_by_side_have_the_same_decimals():
    assert words.reward(0.00635) == "0.00635" and words.reward(0.00635, 0.63) == "0.01"
    assert words.reward(-0.004, 0.63) == "0.00" and words.reward(-0.63, 0.01) == "−0.63"
    assert words.reward(0.00635, 0.012) == "0.00635" and words.reward(0.0, float("nan")) == "0.00"
    assert words.percent(-0.045) == "−4.5%"


def test_the_interval_of_the_win_rate_is_told_to_those_who_do_not_see_it():
    assert 'aria-label="Win rate 71.3%, interval 66.4% to 76.0%, on a scale' in render(example.finished())


def test_a_training_shows_the_speed_of_its_steps():
    known = StageTiming(stage="train", seconds=10.0, rows=64, step_tokens_per_second=74.5)
    assert (known.rows_per_second, known.tokens_per_second) == (6.4, 74.5)
    page = render(replace(bare(), timings=(known,)))
    assert "<td>74.5</td>" in page and "without start-up" in page
    counted = replace(known, tokens=100, step_tokens_per_second=None)
    assert counted.tokens_per_second == 10 and "without start-up" not in render(
        replace(bare(), timings=(counted,))
    )
