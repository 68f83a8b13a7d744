"""Numbers in words, ticks and bins, against values worked out by hand."""

import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rayflow.report import words
from rayflow.report.curve import MAX_POINTS, Curve, is_noisy, smoothed, thinned
from rayflow.report.plots import MAX_BINS, bin_edges, curves
from rayflow.report.svg import Frame, percents, plain, ticks

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
    assert (frame.x(0), frame.x(10)) == (38.0, 390.0)
    assert (frame.y(0), frame.y(1)) == (176.0, 8.0)


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
