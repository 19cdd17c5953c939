"""Heat maps and matches as pictures, and the sections of the page that tell of them."""

import dataclasses
from types import SimpleNamespace

import numpy as np
import pytest
from html_page import Page
from PIL import Image
from tiny_city import write_dataset

from vgbench.data import read_split
from vgbench.models import build_network
from vgbench.report import outputs
from vgbench.report import saliency as heat
from vgbench.report.gallery import Evidence
from vgbench.report.insight import breakdown_section, position_section, rerank_section, trust_section
from vgbench.report.page import gallery_rows, write_report
from vgbench.report.picture import heat_picture, match_picture
from vgbench.report.saliency import SIDE, heat_maps
from vgbench.retrieval.metrics.findings import find
from vgbench.retrieval.options import EvalOptions
from vgbench.retrieval.rerank.local.matches import LocalMatches
from vgbench.runtime import Runtime


@pytest.fixture
def grey(tmp_path):
    path = tmp_path / "grey.png"
    Image.new("RGB", (200, 100), (128, 128, 128)).save(path)
    return path


def test_a_heat_picture_is_bright_where_the_map_is(grey):
    picture = np.asarray(heat_picture(grey, np.array([[0, 255]], np.uint8), (100, 100))).astype(int)
    assert picture.shape == (50, 100, 3)
    assert picture[25, 95].sum() > picture[25, 5].sum() + 200
    assert picture[25, 95, 0] > picture[25, 95, 2]  # warm


def test_matches_join_the_points_that_they_name(grey):
    points = np.array([[0.5, 0.5, 0.25, 0.5]], np.float32)
    picture = np.asarray(match_picture(grey, grey, points, (100, 100), gap=10)).astype(int)
    assert picture.shape == (50, 210, 3)
    coloured = np.argwhere(np.abs(picture - [63, 185, 80]).sum(2) < 20)
    assert (np.abs(coloured[:, 0] - 25) <= 3).all()
    assert coloured[:, 1].min() in range(46, 51) and coloured[:, 1].max() in range(134, 139)
    many = np.random.default_rng(0).random((500, 4)).astype(np.float32)
    assert match_picture(grey, grey, many, (100, 100)).size == (208, 50)
    assert match_picture(grey, grey, many[:0], (100, 100)).size == (208, 50)


def test_heat_maps_are_kept_and_the_time_is_kept_to(tmp_path, monkeypatch):
    split = read_split(write_dataset(tmp_path / "tiny"), "test")
    network = build_network("resnet18conv4", "gem", "none").eval()
    calls, mappers = [], []
    real, make = heat.pair_contributions, heat.mapper_of

    def counted(network, ours, theirs, runtime, mapper):
        calls.append(len(ours))
        assert mapper is mappers[-1]  # one for all pairs of a call
        return real(network, ours, theirs, runtime, mapper)

    monkeypatch.setattr(heat, "pair_contributions", counted)
    monkeypatch.setattr(heat, "mapper_of", lambda *args: mappers.append(make(*args)) or mappers[-1])
    pairs = np.array([[0, 3], [1, 3], [2, 9], [5, 0], [6, 1], [7, 2]])
    args = network, split, pairs, (64, 64), Runtime(), tmp_path / "kept.npz"
    assert list(heat_maps(*args, seconds=-1)) == [] and calls == []
    assert list(heat_maps(*args[:-1], seconds=1e-9)) == [0, 1, 2, 5]  # the first few, whatever it takes
    calls.clear(), mappers.clear()
    found = heat_maps(*args)
    assert list(found) == pairs[:, 0].tolist() and sum(calls) == 6 and len(calls) == 2 and len(mappers) == 1
    for maps in found.values():
        assert maps.shape == (2, SIDE, SIDE) and maps.dtype == np.uint8 and maps.max() == 255 and maps.min() == 0
    again = heat_maps(*args)
    assert sum(calls) == 6
    for row in found:
        np.testing.assert_array_equal(again[row], found[row])
    args[2][0, 1] = 4  # another best match: that map alone is made anew
    assert len(heat_maps(*args)) == 6 and sum(calls) == 7
    (tmp_path / "kept.npz").write_bytes(b"spoilt")
    assert len(heat_maps(*args)) == 6 and sum(calls) == 13


@pytest.mark.parametrize(
    ("asked", "allowed", "says"), [(None, 0.5, " in 0.5 s, a tenth of what the test took;"), (3.0, 3.0, " in 3 s;")]
)
def test_heat_maps_take_a_tenth_of_the_test(city, tmp_path, monkeypatch, caplog, asked, allowed, says):
    seen = []

    def two(network, split, pairs, size, runtime, kept, seconds):
        seen.append(seconds)
        return {int(query): None for query, _ in pairs[:2]}

    monkeypatch.setattr(outputs, "heat_maps", two)
    took = {"extract_database": 3.0, "extract_queries": 1.0, "search": 0.25, "rerank": 0.75}
    found = SimpleNamespace(seconds=took, predictions=city.predictions, fingerprint="f")
    tested = SimpleNamespace(network=None, split=city.split, size=(64, 64), runtime=Runtime(), found=found)
    with caplog.at_level("INFO"):
        assert list(outputs._heat(tested, np.arange(2), asked, tmp_path)) == [0, 1] and not caplog.text
        assert list(outputs._heat(tested, np.arange(4), asked, tmp_path)) == [0, 1]
    assert seen == [allowed] * 2
    assert f"heat maps of 2 of 4 queries{says}" in caplog.text and "--heat_seconds 0 makes all" in caplog.text
    outputs._heat(tested, np.arange(2), 0.0, tmp_path)
    assert seen[-1] == float("inf")


@pytest.fixture
def told(city):
    """The city's results with everything that the findings add."""
    options = EvalOptions(recall_values=(1, 2, 3))
    found = find(city.split, city.predictions, {15.0: city.neighbours}, options, 15.0)
    before = {"15": {"1": 20.0, "2": 30.0}}
    step = {"name": "<local>", "before": before, "after": {"15": {"1": 33.3, "2": 29.0}}, "ms_per_query": 3.21}
    return {**city.results, **found.facts, "rerank": [{**step, "bytes_per_image": 4096.0}]}, found


def test_the_page_tells_what_was_found(city, told, tmp_path):
    results, found = told
    heat_of = {4: np.full((2, SIDE, SIDE), 99, np.uint8)}
    ends = np.arange(1, 19).reshape(6, 3) * 2
    matches = LocalMatches(city.predictions.indices, ends, np.full((36, 4), 0.5, np.float32))
    evidence = Evidence(confidence=found.confidence, heat=heat_of, matches=matches)
    args = results, city.split, city.predictions, city.neighbours
    page = Page(write_report(tmp_path / "r.html", *args, evidence=evidence).read_text())
    ids = [attrs.get("id") for tag, attrs in page.tags if tag == "section"]
    assert ids == ["recall", "rerank", "positions", "breakdown", "trust", "map", "gallery", "options"]
    assert len(page.of_class("heat")) == 2 and len(page.of_class("matches")) == 6
    assert "then <local> 33.3 +13.3 29.0 -1.0 3.21 4,096" in page.text
    assert "2 inliers" in page.text and "2 inliers with the best match" in page.text
    assert f"confidence {100 * found.confidence[4]:.0f}%" in page.text
    assert "cross-validation over the queries" in page.text
    assert "R@100P" in page.text and "threshold, m" in page.text


def test_photographs_without_coordinates_are_not_judged(city, tmp_path):
    queries = city.split.queries.select(np.arange(6))
    queries.utm = np.full((6, 2), np.nan)
    split = dataclasses.replace(city.split, queries=queries)
    found = find(split, city.predictions, {}, EvalOptions(), 25.0)
    assert found.facts == {} and np.isnan(found.confidence).all()
    results = {**city.results, "recalls": {}}
    evidence = Evidence(where={0: "52.20000, 0.12000"}, positions=found.poses.best)
    page = Page(
        write_report(tmp_path / "r.html", results, split, city.predictions, None, evidence=evidence).read_text()
    )
    assert len(page.of_class("plain")) == 18 and not page.of_class("right") and not page.of_class("wrong")
    assert len(page.of_class("map-query")) == 1 and not page.of_class("map-miss")[0].get("d")
    assert "52.20000, 0.12000" in page.text and "R@1" not in page.text and "photographs" in page.text
    assert gallery_rows(split, city.predictions, None, 3).tolist() == [0, 2, 5]


def test_sections_of_what_is_not_known_are_left_out():
    assert rerank_section([], {}) == position_section({}, 25.0) == trust_section({}) == breakdown_section({}) == ""
    unjudged = [{"name": "spatial", "before": {}, "after": {}, "ms_per_query": 1.0, "bytes_per_image": 0.0}]
    assert rerank_section(unjudged, {}) == ""
