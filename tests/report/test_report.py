"""What the page and the summary say, also for runs that are not finished."""

import json
import math
import re
import subprocess
import sys
from dataclasses import replace
from datetime import datetime
from xml.etree import ElementTree

import numpy as np
import pytest

from rayflow.report.data import (
    EvaluationSection,
    FailureCount,
    ReportData,
    Sample,
    SamplesSection,
    StageTiming,
    TrainingSection,
    draw,
)
from rayflow.report.render import lead, render, write_report
from rayflow.report.summary import notes, summary
from rayflow.report.values import Histogram
from tests.report import report_example as example


def bare() -> ReportData:
    return ReportData(name="n", created=datetime(2026, 1, 2, 3, 4), method="rso", model="m", reward="r")


def evaluated(**changes) -> EvaluationSection:
    values = {
        "win_rate": 0.6,
        "low": 0.55,
        "high": 0.65,
        "tie_rate": 0.0,
        "num_prompts": 200,
        "policy_reward": 1.0,
        "baseline_reward": 0.5,
        "policy_tokens": 110.0,
        "baseline_tokens": 100.0,
    }
    return EvaluationSection(**values | changes)


def test_a_finished_run_shows_every_section():
    page = render(example.finished())
    for words in ("71.3%", "66.4%", "24.4%", "45 min 14 s", "hinge_norm", "SmolLM2-135M-Instruct"):
        assert words in page
    assert page.count("<figure>") == 2 + 4 + 6
    assert "Not there yet" not in page


def test_a_loss_without_pairs_is_not_said_to_train_on_any():
    page = render(replace(example.finished(), pairing=None, not_part_of_run=("pairing",)))
    assert "learns from the accepted responses" in page
    assert "go into training" not in page
    assert "Not there yet" not in page


def test_every_drawing_is_well_formed_and_described():
    page = render(example.finished())
    drawings = re.findall(r"<svg.*?</svg>", page, re.S)
    assert len(drawings) == 12
    for drawing in drawings:
        assert ElementTree.fromstring(drawing).get("aria-label")
        assert "nan" not in re.sub(r"<title>.*?</title>", "", drawing).lower()


def test_prompts_and_responses_cannot_plant_markup():
    page = render(example.finished())
    assert "<script" not in page.lower()
    assert "&lt;script&gt;document.title" in page


def test_names_and_labels_cannot_plant_markup():
    bad = "<script>1</script>"
    data = example.finished()
    data = replace(
        data,
        name=bad,
        method=bad,
        model=bad,
        reward=bad,
        config_yaml=f"a: </pre>{bad}",
        versions={bad: bad},
        notes=(bad,),
        failures=(FailureCount(stage=bad, reason=bad, count=1, example=bad),),
        timings=(StageTiming(stage=bad, seconds=1.0),),
        evaluation=replace(data.evaluation, baseline=bad),
    )
    assert "<script" not in render(data)


def test_the_most_memory_of_training_is_on_the_page_and_in_the_summary():
    data = example.finished()
    assert "held up to 3.0 GiB.</p>" in render(data)
    assert summary(data)["training"]["peak_rss_bytes"] == 3 * 2**30
    assert summary(data)["training"]["peak_gpu_bytes"] is None
    on_gpu = [{**row, "memory/peak_gpu_bytes": 5.5 * 2**30} for row in data.training.history]
    data = replace(data, training=replace(data.training, history=tuple(on_gpu)))
    assert "held up to 3.0 GiB, and 5.5 GiB on its GPU.</p>" in render(data)
    assert summary(data)["training"]["peak_gpu_bytes"] == 5.5 * 2**30


def test_the_page_fetches_nothing():
    page = render(example.finished())
    assert "default-src 'none'" in page
    assert not re.search(r"https?://|@import|url\(|<link|<img|<script", page)


@pytest.mark.parametrize("section", ["selection", "pairing", "training", "evaluation", "samples"])
def test_a_missing_section_is_named_and_the_rest_is_there(section):
    data = replace(example.finished(), **{section: None})
    page = render(data)
    assert data.missing == (section,)
    assert "Not there yet" in page
    assert summary(data)[section] is None
    assert "45 min 14 s" in page


def test_a_run_with_nothing_yet_still_has_a_page(tmp_path):
    page = write_report(bare(), tmp_path / "new").read_text()
    assert "selection, pairing, training, evaluation, samples" in page
    assert "2 January 2026, 03:04" in page
    assert "No row failed" in page


def test_empty_and_constant_values_are_drawn_or_left_out():
    data = example.finished()
    none = replace(data.selection, candidate_rewards=np.array([]), accepted_rewards=np.array([]))
    same = replace(data.selection, candidate_rewards=np.full(9, 0.1), accepted_rewards=np.full(3, 0.1))
    for section in (none, same):
        assert "nan" not in render(replace(data, selection=section, failures=())).lower()
    one = TrainingSection(history=({"step": 1, "loss": float("nan")}, {"step": 2, "loss": 0.5}))
    assert "<circle" in render(replace(data, training=one))
    assert "no step has been logged" in render(replace(data, training=TrainingSection(history=())))


@pytest.mark.parametrize(
    "values",
    [[-1.79e308, 1.0], [-1.79e308, 1.79e308], [-1.79e308] * 3, [-1e308, 0.0, 0.0], [5e-324, 0.0]],
)
def test_numbers_at_the_ends_of_what_a_float_holds_are_drawn(values):
    """A reward that means "never" as the lowest number there is must not cost the whole page."""
    section = evaluated(
        policy_rewards=np.array(values),
        baseline_rewards=np.zeros(3),
        policy_reward=-math.inf,
    )
    history = [{"step": i, "loss": value} for i, value in enumerate([*values, 1.0])]
    page = render(replace(bare(), evaluation=section, training=TrainingSection(history=tuple(history))))
    assert "Rewards before and after training" in page and "Loss" in page
    drawings = "".join(re.findall(r"<svg.*?</svg>", page, re.DOTALL))
    assert drawings and not re.search(r'"[^"]*\b(nan|inf)\b[^"]*"', drawings)
    assert max(map(len, re.findall(r"<title>(.*?)</title>", drawings))) < 100


def test_binned_counts_draw_what_the_values_draw():
    data = example.finished()
    values = np.arange(0.05, 1, 0.1)
    binned = Histogram(np.linspace(0, 1, 21), np.histogram(values, 20, (0, 1))[0], float(values.mean()))
    pages = [
        render(replace(data, selection=replace(data.selection, acceptance_rates=rates)))
        for rates in (values, binned)
    ]
    assert pages[0] == pages[1]


def test_bins_drawn_together_must_agree():
    section = example.finished().selection
    one = Histogram(np.array([0.0, 1.0]), np.array([3]), 0.5)
    two = Histogram(np.array([0.0, 2.0]), np.array([3]), 0.5)
    with pytest.raises(ValueError, match="same bin edges"):
        render(replace(bare(), selection=replace(section, candidate_rewards=one, accepted_rewards=two)))


def test_text_that_is_not_valid_unicode_is_written(tmp_path):
    sample = Sample(
        prompt_id="a",
        prompt="half an emoji \ud83d",
        baseline_response="",
        baseline_reward=float("nan"),
        policy_response="ok",
        policy_reward=1.0,
    )
    data = replace(bare(), samples=SamplesSection(samples=(sample,), num_prompts=1, seed=0))
    page = write_report(data, tmp_path).read_text(encoding="utf-8")
    assert "&#55357;" in page
    assert "empty response" in page
    assert "reward –" in page


def test_summary_keys_are_stable(tmp_path):
    write_report(example.finished(), tmp_path)
    content = json.loads((tmp_path / "summary.json").read_text())
    assert list(content) == [
        "schema_version",
        "rayflow_version",
        "name",
        "created",
        "method",
        "model",
        "reward",
        "missing",
        "evaluation",
        "selection",
        "pairing",
        "training",
        "reference",
        "samples",
        "position_bias",
        "failures",
        "timings",
        "total_seconds",
        "versions",
        "notes",
    ]
    assert set(content["evaluation"]) == {
        "win_rate",
        "low",
        "high",
        "tie_rate",
        "excludes_half",
        "confidence",
        "num_resamples",
        "num_prompts",
        "policy_reward",
        "baseline_reward",
        "policy_tokens",
        "baseline_tokens",
        "length_change",
        "policy_cut",
        "baseline_cut",
        "baseline",
        "reward",
    }
    assert set(content["selection"]) == {
        "num_prompts",
        "num_candidates",
        "num_accepted",
        "target_per_prompt",
        "num_short",
        "num_resampled",
        "candidate_reward",
        "accepted_reward",
        "acceptance_rate",
        "rounds",
        "cut_candidates",
        "cut_accepted",
    }
    assert content["schema_version"] == 1
    assert content["created"] == "2026-03-14T15:09:00+00:00"
    assert content["evaluation"]["excludes_half"] is True
    assert content["selection"]["num_candidates"] == 600 * 64
    assert content["training"]["last_step"] == 300
    assert content["total_seconds"] == pytest.approx(2713.6)


def test_a_number_that_does_not_exist_is_null_in_the_summary():
    data = replace(bare(), evaluation=evaluated(baseline_tokens=0.0))
    assert summary(data)["evaluation"]["length_change"] is None


def test_many_cut_responses_are_told_with_what_to_do() -> None:
    data = example.finished()  # 3% of the candidates, 7% of the accepted
    content = summary(data)
    assert content["selection"]["cut_candidates"] == 0.03
    assert content["selection"]["cut_accepted"] == pytest.approx(0.06997, abs=1e-5)
    (note,) = [note for note in content["notes"] if "cut at" in note]
    assert "3.0% of the candidates and 7.0% of the accepted" in note and "Raise sample.max_tokens" in note
    assert "Cut at max_tokens: 3.0% of the candidates, 7.0% of the accepted" in render(data)
    few = replace(data, selection=replace(data.selection, num_cut_accepted=200))
    assert not any("cut at" in note for note in notes(few))
    unknown = replace(data, selection=replace(data.selection, num_cut=None, num_cut_accepted=None))
    assert summary(unknown)["selection"]["cut_candidates"] is None
    assert not any("cut at" in note for note in notes(unknown)) and "Cut at" not in render(unknown)


@pytest.mark.parametrize(
    ("penalty", "todo"),
    [
        (None, "Raise sample.max_tokens{}"),
        (0.0, "Raise sample.max_tokens, {}give the reward a missing_eos_penalty{}"),
        (1.5, "Raise sample.max_tokens, {}raise the reward's missing_eos_penalty (now 1.5){}"),
    ],
)
def test_what_to_do_about_cut_responses_depends_on_the_penalty_that_there_is(penalty, todo) -> None:
    told = evaluated(policy_cut=0.9, baseline_cut=0.1)
    of_policy, of_candidates = (
        note
        for note in notes(replace(example.finished(), evaluation=told, missing_eos_penalty=penalty))
        if "cut at" in note
    )
    asked, sense = ", or ask for shorter answers.", ", so that training prefers responses that end."
    if penalty is None:
        assert of_candidates.endswith(todo.format(asked)) and of_policy.endswith(todo.format("."))
        return
    assert of_candidates.endswith(todo.format("", asked)) and of_policy.endswith(todo.format("or ", sense))


def test_rewards_that_there_are_not_judge_no_unfinished_text() -> None:
    data = example.finished()
    unscored = replace(data.selection, candidate_rewards=None, num_candidates=38_400)
    (note,) = [note for note in notes(replace(data, selection=unscored)) if "cut at" in note]
    assert "where to stop. Raise" in note


def test_rows_that_were_left_out_on_purpose_are_not_called_failed() -> None:
    failed = FailureCount(stage="prompts", reason="malformed row", count=2)
    dropped = FailureCount(stage="prompts", reason="duplicate prompt", count=40_000, dropped=True)
    assert any("2 rows failed" in note for note in notes(replace(bare(), failures=(failed, dropped))))
    assert not any("failed" in note for note in notes(replace(bare(), failures=(dropped,))))


def test_the_same_reward_twice_is_called_optimistic():
    assert any("optimistic" in note for note in notes(replace(bare(), evaluation=evaluated())))
    other = evaluated(optimised=False)
    assert not any("optimistic" in note for note in notes(replace(bare(), evaluation=other)))


@pytest.mark.parametrize(("tokens", "warned"), [(119.0, None), (125.0, "25% longer"), (70.0, "30% shorter")])
def test_a_large_change_of_length_is_warned_about(tokens, warned):
    text = " ".join(notes(replace(bare(), evaluation=evaluated(policy_tokens=tokens))))
    assert (warned in text) if warned else ("length alone" not in text)


def test_prompts_that_were_trained_on_are_not_called_unseen():
    data = replace(example.finished(), evaluation=replace(example.finished().evaluation, num_seen=12))
    assert "On 256 evaluation prompts (12 of them trained on) the trained model wins" in lead(data)
    page = render(data)
    assert "on the evaluation prompts, of which training saw 12." in page
    assert "never saw" not in page and "did not use" not in page and "held-out prompts, before" not in page
    before = render(example.finished())
    assert "On 256 held-out prompts the" in before and "that training never saw" in before


def test_few_prompts_and_failures_are_remarked():
    data = replace(
        bare(),
        evaluation=evaluated(num_prompts=12),
        failures=(FailureCount(stage="score", reason="reward is not finite", count=1),),
        notes=("A note of the run.",),
    )
    text = " ".join(notes(data))
    assert "12 prompts" in text and "1 row failed and is not" in text and "A note of the run." in text


def test_an_undecided_interval_is_not_called_a_win():
    assert "does not settle" in render(replace(bare(), evaluation=evaluated(low=0.48)))
    assert "it is worse" in render(replace(bare(), evaluation=evaluated(win_rate=0.4, low=0.3, high=0.45)))


def test_a_baseline_that_training_did_not_start_from_is_not_called_its_start():
    assert "of comparisons with the model it started from (SFT model)." in lead(example.finished())
    later = replace(example.finished(), evaluation=replace(example.finished().evaluation, is_start=False))
    assert "with the SFT model (which is not the one that training started from)." in lead(later)
    targets = replace(later, evaluation=replace(later.evaluation, baseline="targets"))
    assert "of comparisons with the targets." in lead(targets)


def test_a_chosen_checkpoint_is_told_with_its_step():
    data = example.finished()
    assert "was kept" not in render(data) and summary(data)["training"]["kept_step"] is None
    chosen = replace(data, training=replace(data.training, kept_step=40, num_epochs=1.5))
    assert "the model of step 40 was kept" in render(chosen) and ", 1.50 epochs." in render(chosen)
    assert summary(chosen)["training"]["kept_step"] == 40


def test_samples_are_drawn_by_seed_alone():
    positions = draw(1000, count=12, seed=3)
    assert len(positions) == len(set(positions.tolist())) == 12
    assert (
        positions.tolist() == draw(1000, count=12, seed=3).tolist() != draw(1000, count=12, seed=4).tolist()
    )
    assert draw(5, count=12).tolist() == [0, 1, 2, 3, 4]


def test_report_data_needs_no_drawing_or_template_library():
    code = "import rayflow.report.render, sys; print({'jinja2', 'matplotlib', 'torch'} & set(sys.modules))"
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert shown.strip() == "set()"
