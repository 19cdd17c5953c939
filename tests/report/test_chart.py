import math
import xml.etree.ElementTree as ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vgbench.report.chart import HEIGHT, WIDTH, Series, line_chart, ticks


def draw(series, **more):
    return ElementTree.fromstring(line_chart(series, title="t", x_label="x", y_label="y", **more))


@given(st.floats(-1e6, 1e6), st.floats(1e-3, 1e6), st.integers(2, 8))
def test_ticks_enclose_the_data_with_round_steps(low, extent, about):
    found = ticks(low, low + extent, about)
    step = found[1] - found[0]
    assert found[0] <= low + step * 1e-6 and found[-1] >= low + extent - step * 1e-6
    assert 2 <= len(found) <= about + 3
    mantissa = step / 10 ** math.floor(math.log10(step) + 1e-6)
    assert min(abs(mantissa - round_one) for round_one in (1, 2, 5, 10)) < 1e-3


def test_ticks_of_one_value_and_whole_numbers():
    assert ticks(3, 3)[0] < 3 < ticks(3, 3)[-1]
    assert ticks(1, 3, 6, whole=True) == [1, 2, 3]


def test_points_land_where_the_axes_say():
    svg = draw([Series("a", [0, 10], [0, 100])], y_ticks=(0, 100))
    (x0, y0), (x1, y1) = (map(float, p.split(",")) for p in svg.find("polyline").get("points").split())
    assert x0 < x1 and y0 > y1
    grid = [float(line.get("y1")) for line in svg.findall("line[@class='grid']")]
    assert (y0, y1) == pytest.approx((max(grid), min(grid)), abs=0.1)


@given(st.lists(st.tuples(st.integers(0, 500), st.floats(-1e4, 1e4)), min_size=1, max_size=80))
def test_everything_stays_inside(points):
    points.sort()
    svg = draw([Series("a", [x for x, _ in points], [y for _, y in points])])
    circles = list(svg.iter("circle"))
    assert len(circles) == len(points)
    for circle in circles:
        assert 0 <= float(circle.get("cx")) <= WIDTH and 0 <= float(circle.get("cy")) <= HEIGHT


def test_what_is_not_finite_is_left_out_and_nothing_is_said_so():
    svg = draw([Series("a", [1, 2, 3], [1.0, math.nan, 3.0])])
    assert len(list(svg.iter("circle"))) == 2
    assert "no data" in line_chart([Series("a", [1], [math.inf])], title="<t>", x_label="x", y_label="y")
    assert "&lt;t&gt;" in line_chart([], title="<t>", x_label="x", y_label="y")


def test_labels_are_escaped_and_the_mark_is_drawn():
    svg = draw([Series("<a&b>", [0, 1], [0, 1])], mark_x=(1, "best"))
    words = "".join(svg.itertext())
    assert "<a&b>" in words and "best" in words
    assert svg.find("line[@class='mark']") is not None
