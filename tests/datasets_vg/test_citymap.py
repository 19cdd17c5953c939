"""Maps of datasets: north up, in proportion, one panel a city."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ElementTree

import numpy as np
import pytest

from datasets_vg.citymap import MARGIN, WIDTH, city_panels, svg

SVG = "{http://www.w3.org/2000/svg}"


def marks(text: str, colour: str) -> list[np.ndarray]:
    """The positions of the dots of a colour, a path each: [M,2] in drawing units."""
    paths = [path for path in ElementTree.fromstring(text).iter(f"{SVG}path") if path.get("stroke") == colour]
    found = [re.findall(r"M(-?[\d.]+) (-?[\d.]+)", path.get("d", "")) for path in paths]
    return [np.array([tuple(map(float, pair)) for pair in pairs]) for pairs in found]


def test_north_is_up_and_proportions_are_kept() -> None:
    utm = np.array([[500000.0, 4000000], [500030, 4000000], [500000, 4000040]])
    text = svg("town", [("database", "#aaa", 3.6, utm), ("queries", "#111", 2.2, utm[:1])])
    [database], [queries] = marks(text, "#aaa"), marks(text, "#111")
    east, north = database[1] - database[0], database[2] - database[0]
    assert east[0] > 0 > north[1] and east[1] == north[0] == 0
    assert -north[1] / east[0] == pytest.approx(40 / 30, rel=0.01)
    np.testing.assert_array_equal(queries[0], database[0])
    assert "database: 3 images" in text and "queries: 1 images" in text and "10 m" in text


def test_images_at_one_spot_are_one_dot_and_all_lie_on_the_drawing() -> None:
    utm = np.random.default_rng(0).random((500, 2)) * [3000, 900]
    text = svg("town", [("database", "#aaa", 3.6, np.concatenate([utm, utm]))])
    [dots] = marks(text, "#aaa")
    assert 400 < len(dots) <= 500
    assert (dots >= MARGIN - 0.1).all() and (dots[:, 0] <= WIDTH - MARGIN + 0.1).all()


def test_cities_stand_side_by_side_each_at_its_own_scale() -> None:
    square = np.array([[0.0, 0], [1, 0], [0, 1], [1, 1]])
    text = city_panels("world", [("Rome", square * 1000), ("Oslo", square * 20 + 7e6)])
    rome, oslo = marks(text, "#08519c")
    np.testing.assert_allclose(rome - rome.min(0), oslo - oslo.min(0), atol=0.11)
    assert rome[:, 0].max() < oslo[:, 0].min() and "Rome: 4 images, 1.0 km" in text
