"""The matrix and the scatter plot of a report: right places, nothing hidden, both in a picture and in a document."""

import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from erasure.metrics.intervals import Interval, wilson
from erasure.report import Cell, Matrix, Report, Scatter, Series, Spot, Version, to_html, to_image
from erasure.report.drawing import GOALS, TRACK
from erasure.report.matrix import WIDEST
from erasure.report.png import MARGIN, WIDTH
from erasure.report.scatter import BOTTOM, COLOURS, DOT, HEIGHT, LEFT, TOP
from erasure.report.scatter import WIDTH as PLOT
from tests.unit.test_report import colours


def matrix(columns=(("Base", ["none"]), ("Alone", ["<a>", "b"])), shares=((1, 0, 1), (1, 1, 0))):
    goals = (("keep", "erase", "keep"), ("keep", "keep", "erase"))
    cells = [
        [Cell(wilson(s, 1), g) for s, g in zip(row, goal, strict=True)] for row, goal in zip(shares, goals, strict=True)
    ]
    return Matrix("UCE", "% recognised", ["<a>", "b"], columns, cells)


def spot(erased, kept, n=10):
    return Spot(wilson(kept, n), wilson(erased, n))


def scatter(*series):
    return Scatter("Erasure & preservation", "a note", "preserved", "erased", list(series))


def alone(panel):
    return Report("r", "", [Version("base")], [], [], panels=[panel])


def test_a_matrix_of_another_shape_is_refused():
    with pytest.raises(ValueError, match="2 rows, 2 columns"):
        matrix(columns=[("Base", ["none", "b"])])
    with pytest.raises(ValueError, match="1 rows"):
        Matrix("t", "", ["a"], [("g", ["x"])], [])


def test_cells_are_the_stronger_the_more_is_recognised_and_what_should_be_gone_is_framed():
    counts = colours(to_image(alone(matrix())))
    assert TRACK in {"#{:02x}{:02x}{:02x}".format(*colour) for colour in counts}  # 0 %
    frame = tuple(int(GOALS["erase"][i : i + 2], 16) for i in (1, 3, 5))
    unframed = [[Cell(cell.interval, "keep") for cell in row] for row in matrix().cells]
    plain = colours(to_image(alone(Matrix("UCE", "", ["a", "b"], [("g", ["x", "y", "z"])], unframed))))
    assert counts[frame] > 100 and frame not in plain


def test_a_matrix_says_everything_in_html_and_nothing_is_not_zero():
    missing = Matrix("t", "", ["a"], [("g", ["x", "y"])], [[Cell(None, "keep"), Cell(wilson(0, 4), "erase")]])
    cells = re.findall(r"<td.*?>(.*?)</td>", missing.html())
    assert cells == ["–", "0"]
    html = to_html(alone(matrix()))
    assert re.findall(r"<td.*?>(.*?)</td>", html) == ["100", "0", "100", "100", "100", "0"]
    assert "&lt;a&gt;" in html and "<a>" not in html and "0 % [0, 79] of 1" in html


@pytest.mark.parametrize("members", [3, 40, 200])
def test_a_matrix_of_many_edits_fits_the_page(members):
    names = [str(i) for i in range(members)]
    wide = Matrix("t", "n", ["a"], [("g", names)], [[Cell(wilson(1, 2), "keep")] * members])
    assert wide.size()[0] <= WIDEST == WIDTH - 2 * MARGIN
    assert to_image(alone(wide)).width == WIDTH


def test_axes_begin_below_what_is_shown():
    plot = scatter(Series("a", spot(10, 7), [spot(4, 10)]))
    x, y = plot.starts()
    assert x <= wilson(7, 10).low and y <= 0.4 and x > 0
    assert scatter(Series("a", spot(0, 0))).starts() == (0, 0)
    exact = Interval(1.0, 1.0, 1.0, 5)
    assert scatter(Series("a", Spot(exact, exact))).starts() == (0.9, 0.9)
    for ticks in plot.ticks():
        assert ticks[-1] == 1 and 3 <= len(ticks) <= 8


def test_better_is_up_and_to_the_right():
    good, bad = scatter(Series("good", spot(9, 9)), Series("bad", spot(3, 5))).marks()
    assert good.x > bad.x and good.y < bad.y


@given(st.lists(st.tuples(st.integers(0, 9), st.integers(0, 9)), min_size=1, max_size=6))
@settings(max_examples=30, deadline=None)
def test_no_dot_hides_another_of_the_same_spot_and_all_are_on_the_panel(values):
    plot = scatter(*(Series(str(i), spot(9 - a, 9 - b, 9), [spot(9 - a, 9 - b, 9)]) for i, (a, b) in enumerate(values)))
    marks = [mark for mark in plot.marks() if not mark.small]
    assert [mark.series for mark in marks] == list(range(len(values)))
    for i, one in enumerate(marks):
        assert LEFT - 6 * DOT < one.x < PLOT and TOP <= one.y <= HEIGHT - BOTTOM
        for k, other in enumerate(marks[:i]):
            if values[i] == values[k]:
                assert abs(one.x - other.x) > 2 * DOT


def test_every_series_is_drawn_and_named():
    plot = scatter(*(Series(f"<m{i}>", spot(10, 10)) for i in range(3)))
    counts = colours(to_image(alone(plot)))
    for colour in COLOURS[:3]:
        assert counts[tuple(int(colour[i : i + 2], 16) for i in (1, 3, 5))] > 100
    html = to_html(alone(plot))
    assert all(f"&lt;m{i}&gt;" in html for i in range(3)) and "Erasure &amp; preservation" in html


def test_panels_stand_side_by_side_while_there_is_room():
    def height(count):
        panels = [scatter(Series("a", spot(10, 10)))] * count
        return to_image(Report("r", "", [Version("base")], [], [], panels=panels)).height

    assert height(1) == height(3) < height(4)
