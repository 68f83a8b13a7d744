"""Numbers in words, ticks and bins, against values worked out by hand."""

import re
from pathlib import Path

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from rayflow.report import words
from rayflow.report.curve import MAX_POINTS, Curve, is_noisy, smoothed, thinned
from rayflow.report.data import PairingSection
from rayflow.report.figures import CURVES, overlaid, pairing
from rayflow.report.plane import Mark, marks
from rayflow.report.plots import MAX_BINS, Layer, bin_edges, only_value
from rayflow.report.steps import curves
from rayflow.report.svg import Frame, percents, plain, ticks
from rayflow.report.values import Histogram

finite = st.floats(-1e6, 1e6, allow_nan=False)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.7134, "0.713"),
        (61.49, "61.5"),
        (12345.6, "12,346"),
        (-2.0, "−2"),
        (1e-5, "1.0e-5"),
        (float("nan"), "–"),
        (None, "–"),
    ],
)
def test_numbers_have_three_digits(value, text):
    assert words.number(value) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.42, "0.4 s"),
        (59.6, "1 min 0 s"),
        (61.0, "1 min 1 s"),
        (3599.7, "1 h 0 min"),
        (4321.0, "1 h 12 min"),
    ],
)
def test_durations_have_two_units(seconds, text):
    assert words.duration(seconds) == text


def test_memory_and_counts():
    assert [words.memory(size) for size in (0, 512, 3 << 30, None)] == ["0 B", "512 B", "3.0 GiB", "–"]
    assert [words.count(n, "row") for n in (1, 1200)] == ["1 row", "1,200 rows"]
    assert words.percent(0.0214) == "2.1%"


def test_ticks_are_round_and_labels_have_the_digits_they_need():
    assert ticks(-3.1, 4.4, 6) == [-2, 0, 2, 4]
    assert plain([0.0, 0.25, 0.5]) == ["0.00", "0.25", "0.50"]
    assert plain([-1.0, 0.0, 1.0]) == ["−1", "0", "1"]
    assert plain([0.0, 5e-6, 1e-5]) == ["0", "5e-6", "1e-5"]
    assert percents([0.0, 0.05]) == ["0%", "5%"]


@example([49.0, -5e-324])
@given(st.lists(finite, min_size=1, max_size=50))
def test_bins_cover_every_value_once(values):
    array = np.array(values)
    edges = bin_edges([array])
    assert np.all(np.diff(edges) > 0)
    assert len(edges) <= MAX_BINS + 3
    assert np.histogram(array, edges)[0].sum() == len(values)


@given(st.lists(st.integers(1, 5000), min_size=1, max_size=50))
def test_bins_of_whole_numbers_are_centred_on_them(values):
    array = np.array(values)
    edges = bin_edges([array], whole=True)
    assert np.all(np.mod(edges, 1) == 0.5)
    assert len(edges) <= MAX_BINS + 2
    assert np.histogram(array, edges)[0].sum() == len(values)


def test_a_frame_maps_its_corners_to_the_margins():
    frame = Frame((0.0, 10.0), (0.0, 1.0))
    assert (frame.x(0), frame.x(10)) == (42.0, 390.0)
    assert (frame.y(0), frame.y(1)) == (190.0, 22.0)


def test_the_vertical_axis_has_a_name_above_it_as_text():
    drawn = Frame((0.0, 1.0), (0.0, 1.0)).axes("x", y_label="<share>")
    assert '<text class="axis" x="0" y="10">&lt;share&gt;</text>' in drawn
    assert drawn.count('class="axis"') == 2 and Frame((0.0, 1.0), (0.0, 1.0)).axes("x").count("axis") == 1


@pytest.mark.parametrize("shape", ["circle", "square", "diamond", "triangle"])
def test_every_shape_of_a_point_is_another_one_and_the_legend_can_draw_it(shape):
    frame = Frame((0.0, 1.0), (0.0, 1.0))
    drawn = {each: marks(frame, [Mark(0.5, 0.5, "", "")], "after", each) for each in (shape, "other")}
    assert shape == "triangle" or drawn[shape] != drawn["other"]
    style = (Path(words.__file__).parent / "style.css").read_text()
    assert f".swatch.{shape} {{" in style


@pytest.mark.parametrize(
    ("values", "whole", "expected"),
    [
        ([np.ones(64)], True, 1.0),
        ([np.full(9, 0.1), np.full(3, 0.1), np.array([])], False, 0.1),
        ([np.full(9, 0.1), np.full(3, 0.2)], False, None),
        ([np.array([])], False, None),
        ([Histogram(np.array([0.5, 1.5, 2.5]), np.array([0, 7]), 2.0)], True, 2.0),
        ([Histogram(np.array([0.5, 1.5, 2.5]), np.array([0, 7]), 2.0)], False, None),
        ([Histogram(np.array([0.5, 2.5, 4.5]), np.array([0, 7]), 3.5)], True, None),
        ([Histogram(np.array([0.5, 1.5, 2.5]), np.array([1, 7]), 1.9)], True, None),
    ],
)
def test_values_that_are_all_the_same_are_known_as_one(values, whole, expected):
    assert only_value([Layer("after", "x", each) for each in values], whole) == expected


def test_a_histogram_of_one_value_is_a_sentence():
    (found,) = overlaid("Passes", [Layer("neutral", "prompts", np.ones(64))], "passes", "Long.", whole=True)
    assert not found.svg and found.caption == "Every value is 1 (prompts: 64)."


def test_a_drawings_description_holds_its_means():
    layers = [Layer("before", "all", np.array([0.25, 0.75])), Layer("after", "kept", np.array([0.75, 1.0]))]
    (found,) = overlaid("Rewards", layers, "reward", "")
    assert 'aria-label="Histogram of reward: all with mean 0.500, kept with mean 0.875"' in found.svg
    drawn = curves([Curve("after", "loss", np.array([1, 2]), np.array([1.5, 0.25]))])
    assert 'aria-label="Over training steps: loss from 1.50 to 0.250"' in drawn


def test_an_article_stands_before_a_description_and_not_before_a_name():
    named = [words.the(name) for name in ("SFT policy", "targets", "quickstart", "policy (a)")]
    assert named == ["the SFT policy", "the targets", "quickstart", "the policy (a)"]


def test_running_mean_keeps_a_line_and_its_ends():
    steps = np.arange(100.0)
    smooth = smoothed(Curve("after", "x", steps, 2 * steps))
    assert smooth.values[10:90] == pytest.approx(2 * steps[10:90])
    assert smooth.values[0] == pytest.approx(np.mean(2 * steps[:5]))


def test_long_curves_are_thinned_and_gaps_are_skipped():
    values = np.where(np.arange(10_000) % 2, np.nan, 1.0 * np.arange(10_000))
    drawing = curves([Curve("after", "x", np.arange(10_000.0), values)])
    assert "nan" not in drawing
    assert len(drawing) < 20_000


def test_a_spike_of_a_single_step_stays_in_a_long_curve_and_its_mean_is_that_of_all_steps():
    values = 1 + 0.1 * np.random.default_rng(0).normal(size=10_000)
    values[[1234, 7777]] = 50.0, -20.0
    curve = Curve("after", "x", np.arange(10_000.0), values)
    seen = thinned(curve)
    assert set(zip(seen.steps, seen.values, strict=True)) >= {(1234, 50), (7777, -20), (0, values[0])}
    assert seen.steps[-1] == 9999 and np.all(np.diff(seen.steps) > 0) and len(seen.steps) <= MAX_POINTS + 2
    lines = re.findall(r'<polyline class="(.*?)" points="(.*?)"', curves([curve]))
    assert [kind for kind, _ in lines] == ["line raw after", "line after"]
    heights = [[float(point.split(",")[1]) for point in points.split()] for _, points in lines]
    # One spike in a window of 833 steps lifts the mean by 0.06; the chart is 70 high.
    assert np.ptp(heights[0]) > 20 * np.ptp(heights[1])


def test_a_schedule_is_no_noise_and_noise_beside_a_spike_is():
    def noisy(values):
        curve = Curve("after", "x", np.arange(len(values)), values)
        return is_noisy(curve, smoothed(curve))

    steps = np.arange(1000.0)
    assert not any(map(noisy, (np.minimum(steps, 100), np.cos(steps / 1000 * np.pi), np.ones(1000))))
    spiked = np.random.default_rng(0).normal(size=1000)
    spiked[500] = 1e4
    assert noisy(spiked)


@pytest.mark.parametrize(
    ("margins", "by_ranker", "said"),
    [
        (np.array([0.0, 0.5, 2.0]), 0, "close to coin flips."),
        (np.array([-0.5, 0.5, 2.0]), 0, "pairs left of zero were labelled against this reward."),
        (np.array([-0.5, 0.5, 2.0]), 3, "pairs left of zero were drawn against the odds."),
        (Histogram(np.array([-1.0, 0.0, 1.0]), np.array([0, 3]), 0.5), 0, "close to coin flips."),
        (Histogram(np.array([-1.0, 0.0, 1.0]), np.array([1, 2]), 0.5), 0, "labelled against this reward."),
    ],
)
def test_pairs_left_of_zero_are_explained_where_there_are_any(margins, by_ranker, said):
    section = PairingSection(num_pairs=3, num_prompts=1, margins=margins, num_by_ranker=by_ranker)
    (figure,) = pairing(section)
    assert figure.caption.endswith(said)


def test_the_captions_of_training_give_the_unit_and_say_why_accuracy_starts_low():
    captions = {title: caption for title, _, _, caption in CURVES}
    assert all("gamma times nats" in captions[f"Implicit reward{end}"] for end in (" margin", "s"))
    assert "policy and reference are equal, and ties count as wrong" in captions["Pair accuracy"]
