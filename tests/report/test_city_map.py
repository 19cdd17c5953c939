import re
import xml.etree.ElementTree as ElementTree

import numpy as np
import pytest

from vgbench.report.city_map import MAX_HEIGHT, WIDTH, city_map


def marks(svg, kind):
    """The positions of one kind of mark, [M,2] in drawing units."""
    path = ElementTree.fromstring(svg).find(f"path[@class='map-{kind}']").get("d")
    return np.array([tuple(map(float, pair)) for pair in re.findall(r"M(-?[\d.]+) (-?[\d.]+)", path)]).reshape(-1, 2)


def test_hits_misses_and_shared_spots_are_told_apart():
    database = np.array([[0.0, 0], [100, 0], [0, 100]])
    queries = np.array([[0.0, 0], [100, 0], [50, 50], [50, 50], [50, 50]])
    svg = city_map(database, queries, np.array([True, False, True, False, False]), title="map")
    assert [len(marks(svg, kind)) for kind in ("database", "hit", "miss", "both", "share")] == [3, 1, 1, 1, 1]
    hit, miss = marks(svg, "hit")[0], marks(svg, "miss")[0] + 2.5
    assert miss[0] > hit[0] and miss[1] == pytest.approx(hit[1], abs=0.2)
    # A third of the shared spot is green: the slice ends a third of a turn from the top, below and to the right.
    arc = re.search(r"M([\d.]+) ([\d.]+)v-3.5A3.5 3.5 0 0 1 ([\d.]+) ([\d.]+)Z", svg)
    x, y, end_x, end_y = map(float, arc.groups())
    assert (end_x - x, end_y - y) == pytest.approx((3.5 * np.sin(2 * np.pi / 3), 3.5 * 0.5), abs=0.1)


def test_north_is_up_and_proportions_are_kept():
    database = np.array([[0.0, 0], [30, 0], [0, 40]])
    svg = city_map(database, np.empty((0, 2)), np.empty(0, bool), title="map")
    [corner] = [p for p in marks(svg, "database") if np.isclose(marks(svg, "database"), p).all(1).sum() == 1][:1]
    points = marks(svg, "database")
    origin = points[np.lexsort((points[:, 0], -points[:, 1]))][0]
    east = points[points[:, 0].argmax()] - origin
    north = points[points[:, 1].argmin()] - origin
    assert north[1] < 0 < east[0] and corner is not None
    assert -north[1] / east[0] == pytest.approx(40 / 30, rel=0.01)


@pytest.mark.parametrize("extent", [(0, 0), (1000, 0), (0, 1000), (1e-3, 1e-3), (5e5, 10)])
def test_streets_and_single_places_fit(extent):
    queries = np.random.default_rng(0).random((50, 2)) * extent + [5e5, 4e6]
    svg = city_map(queries + 0.0, queries, np.ones(50, bool), title="map")
    height = float(ElementTree.fromstring(svg).get("viewBox").split()[3])
    at = marks(svg, "hit")
    assert height <= MAX_HEIGHT and (at >= 0).all() and (at[:, 0] <= WIDTH).all() and (at[:, 1] <= height).all()


def test_the_file_does_not_grow_with_the_data():
    rng = np.random.default_rng(0)
    database, queries = rng.random((300_000, 2)) * 1e4, rng.random((100_000, 2)) * 1e4
    assert len(city_map(database, queries, rng.random(100_000) < 0.5, title="map")) < 400_000


def test_unknown_coordinates_are_left_out():
    queries = np.array([[np.nan, 0.0], [1.0, 1.0]])
    svg = city_map(np.array([[0.0, 0.0]]), queries, np.array([True, False]), title="map")
    assert len(marks(svg, "hit")) == 0 and len(marks(svg, "miss")) == 1
    assert "no coordinates" in city_map(queries[:1], queries[:1], np.array([True]), title="map")
