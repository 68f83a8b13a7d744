"""Names beside the points of a chart."""

import re

from hypothesis import given
from hypothesis import strategies as st

from rayflow.report.labels import CHAR_WIDTH, HEIGHT, POINT, Box, labels
from rayflow.report.plane import Mark
from rayflow.report.svg import BOTTOM, LEFT, RIGHT, TOP, Frame

FRAME = Frame((0.0, 100.0), (0.0, 1.0), 820.0, 380.0)
PLACED = re.compile(r'x="([\d.-]+)" y="([\d.-]+)" text-anchor="middle">([^<]+)</text>')


def boxes(drawn: str) -> list[Box]:
    """What the names cover, a rounding smaller than reserved."""
    found = []
    for x, y, word in PLACED.findall(drawn):
        half, base = CHAR_WIDTH * len(word) / 2, float(y) + 2
        found.append(Box(float(x) - half + 0.1, base - HEIGHT + 0.1, float(x) + half - 0.1, base - 0.1))
    return found


@given(
    st.lists(
        st.tuples(st.floats(0, 100), st.floats(0, 1), st.text("abc", max_size=24)), min_size=1, max_size=40
    )
)
def test_names_cover_neither_points_nor_each_other_and_stay_inside(points):
    marks = [Mark(x, y, label, "") for x, y, label in points]
    placed = boxes(labels(FRAME, marks))
    squares = [
        Box(FRAME.x(m.x) - POINT, FRAME.y(m.y) - POINT, FRAME.x(m.x) + POINT, FRAME.y(m.y) + POINT)
        for m in marks
    ]
    inside = Box(LEFT, TOP, FRAME.width - RIGHT, FRAME.height - BOTTOM)
    for i, box in enumerate(placed):
        assert not any(box.meets(other) for other in (*placed[:i], *squares))
        assert box.left >= inside.left and box.right <= inside.right
        assert box.top >= inside.top and box.bottom <= inside.bottom


def test_a_lonely_point_has_its_name_beside_it_and_no_line():
    drawn = labels(FRAME, [Mark(50.0, 0.5, "alone", "")])
    [(x, y, word)] = PLACED.findall(drawn)
    assert word == "alone" and "leader" not in drawn
    assert abs(float(x) - FRAME.x(50.0)) < 25 and abs(float(y) - FRAME.y(0.5)) < 8


def test_crowded_names_stand_further_off_with_a_line():
    marks = [Mark(50.0 + 0.2 * i, 0.5, f"a long name {i}", "") for i in range(12)]
    drawn = labels(FRAME, marks)
    assert sorted(word for _, _, word in PLACED.findall(drawn)) == sorted(mark.label for mark in marks)
    assert 0 < drawn.count("leader") < 12


def test_who_finds_no_room_has_no_name_and_the_first_ones_do():
    marks = [Mark(50.0, 0.5, f"a name of some length {i:03}", "") for i in range(200)]
    words = [word for _, _, word in PLACED.findall(labels(FRAME, marks))]
    assert 0 < len(words) < 200 and words[0].endswith("000")


def test_names_do_not_cross_a_curve():
    line = [(10.0, 0.1), (50.0, 0.5), (90.0, 0.2)]
    marks = [Mark(x, y, f"corner {i}", "") for i, (x, y) in enumerate(line)]
    placed = boxes(labels(FRAME, marks, line))
    assert len(placed) == 3
    for share in range(101):
        x, y = 10 + 0.4 * share, 0.1 + 0.004 * share
        spot = Box(FRAME.x(x) - 0.5, FRAME.y(y) - 0.5, FRAME.x(x) + 0.5, FRAME.y(y) + 0.5)
        assert not any(box.meets(spot) for box in placed)


def test_names_are_text_not_markup():
    assert "&lt;b&gt;" in labels(FRAME, [Mark(50.0, 0.5, "<b>", "")])
