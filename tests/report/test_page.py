import base64
import dataclasses
import hashlib
import os
import re

import pytest
from html_page import Page

from vgbench.errors import UserError
from vgbench.report.gallery import Evidence, choose_queries
from vgbench.report.outcome import outcome_of
from vgbench.report.page import write_report

HISTORY = [
    {"epoch": 0, "loss": 0.5, "recalls": {"1": 10.0, "5": 20.0}},
    {"epoch": 1, "loss": 0.25, "recalls": {"1": 15.0, "5": 30.0}},
]


@pytest.fixture
def write(city, tmp_path):
    def written(results=None, history=HISTORY, **more):
        path = tmp_path / "report.html"
        args = results or city.results, city.split, city.predictions, city.neighbours
        more["evidence"] = dataclasses.replace(more.get("evidence", Evidence()), history=history)
        assert write_report(path, *args, **more) == path
        assert not list(tmp_path.glob("*.partial"))
        return path.read_text(encoding="utf-8")

    return written


def test_counts(write):
    page = Page(write())
    assert len(page.of_class("card")) == 6
    assert (len(page.of_class("hit")) - 1, len(page.of_class("miss"))) == (2, 4)  # the map's key has a hit too
    # 6 queries x 3 predictions; right: 2 + 2 + 1 + 0 + 0 + 0 of them.
    kinds = [len(page.of_class(kind)) for kind in ("query", "right", "wrong")]
    assert kinds == [6, 5, 13]
    images = [attrs for tag, attrs in page.tags if tag == "img"]
    assert len(images) == 24 and not any("loading" in attrs for attrs in images)  # printing leaves lazy ones out
    assert len([1 for tag, _ in page.tags if tag == "svg"]) == 4
    for words in ("All 6", "Misses 4", "Hits 2", "R@1", "33.3 %", "2 hits at rank 1", "4 misses", "0.1.0+test"):
        assert words in page.text
    assert "Missed, right at rank 3" in page.text and "No right answer in the database" in page.text
    assert "✗ 990 m" in page.text and "✗ 1.0 km" in page.text and "✓ 1.0 m" in page.text


def test_worst_failures_come_first(write):
    cards = [attrs["id"] for attrs in Page(write()).of_class("card")]
    assert cards == ["query-4", "query-3", "query-2", "query-5", "query-0", "query-1"]


def test_recalls_by_threshold(write):
    text = Page(write()).text
    assert "15 m 33.3 33.3 50.0" in text
    assert " 5 m 16.7 33.3 50.0 " in text


def test_nothing_is_fetched_and_only_the_filter_runs(write):
    text = write()
    page = Page(text)
    for tag, attrs in page.tags:
        assert tag not in ("link", "iframe", "object", "embed", "base")
        assert not [name for name in attrs if name.startswith("on")]
        for name in ("src", "href", "srcset", "action", "data", "poster", "background"):
            assert attrs.get(name, "data:").startswith(("data:", "#query-"))
    without_data = re.sub(r"data:image/jpeg;base64,[A-Za-z0-9+/=]+", "", text)
    assert not re.search(r"(?i)https?:|//[a-z]|@import|url\(", without_data)
    [policy] = [attrs["content"] for _, attrs in page.tags if attrs.get("http-equiv") == "Content-Security-Policy"]
    [script] = re.findall(r"<script>(.*?)</script>", text, re.DOTALL)
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    assert policy.split("; ") == [
        "default-src 'none'", "img-src data:", "style-src 'unsafe-inline'", f"script-src 'sha256-{digest}'"
    ]  # fmt: skip
    assert not re.search(r"fetch|XMLHttp|import|eval|innerHTML|document\.write", script)


def test_marks_of_the_map_lead_to_their_query(write):
    page = Page(write())
    cards = {attrs["id"] for attrs in page.of_class("card")}
    links = [attrs["href"].removeprefix("#") for tag, attrs in page.tags if tag == "a"]
    assert len(links) > 1 and set(links) <= cards


def test_what_was_set_is_shown_and_the_defaults_are_folded(city, write):
    options = {"lr": 0.1, "seed": 0, "backbone": "vit"}
    text = write(city.results | {"options": options, "options_set": ["lr"]})
    shown, folded = text.partition('id="options"')[2].split("<details>")
    assert "<dt>lr</dt><dd>0.1</dd>" in shown and "seed" not in shown
    assert "2 options at their defaults" in folded and "<dt>seed</dt><dd>0</dd>" in folded and "<dt>lr" not in folded
    assert "<details>" not in write(city.results | {"options": options})  # nobody wrote down what was set


def test_file_names_and_options_are_text(city, write):
    nasty = city.results["options"]["note"]
    page = Page(write())
    names = [attrs["title"] for attrs in page.of_class("query")]
    assert any(nasty in name for name in names)
    assert nasty in page.text
    assert not any("onerror" in attrs for _, attrs in page.tags)


def test_a_released_networks_page_is_titled_by_its_method(city, write):
    page = write({**city.results, "network": {"method": "salad"}})
    assert "<title>salad on " in page and "network on" not in page


def test_networks_of_networks_are_told_a_line_each(city, write):
    gem = {"backbone": "resnet18", "aggregation": "gem", "l2": "none", "fc_output_dim": None}
    white = {"backbone": "whitened", "aggregation": "gem", "members": [gem], "dim": 8}
    network = {"backbone": "ensemble", "aggregation": "concat", "members": [white, {"method": "salad"}]}
    text = Page(write(city.results | {"network": network})).text
    assert "member 1 whitened + gem, dim 8 (of resnet18 + gem, l2 none)" in text and "member 2 salad" in text
    assert "{" not in text.partition("What was run")[2].partition("Seconds of each stage")[0]


def test_a_name_that_is_no_text(city, write, tmp_path):
    raw = os.fsencode(city.split.queries.root) + b"/@0500060.00@4000002.00@@@@@@@@@@@@\xff\xfe@.jpg"
    os.link(city.split.queries.path(0), raw)
    from vgbench.data import neighbours_within, read_split
    from vgbench.retrieval.predictions import Predictions

    split = read_split(city.split.root, "test")
    pick = [0, 1, 2, 3, 4, 5, 5][: len(split.queries)]
    predictions = Predictions(city.predictions.indices[pick], city.predictions.distances[pick])
    neighbours = neighbours_within(split.queries.utm, split.database.utm, 15.0)
    path = write_report(tmp_path / "r.html", city.results, split, predictions, neighbours)
    assert len(Page(path.read_text(encoding="utf-8")).of_class("card")) == len(split.queries) == 7


def test_without_training_there_are_no_training_curves(write):
    page = Page(write(history=[]))
    assert "Training" not in page.text and len([1 for tag, _ in page.tags if tag == "svg"]) == 2


def test_least_results_are_enough(write):
    page = Page(write(results={"dataset": "city", "recalls": {"15": {"1": 33.3}}}))
    assert "network on city" in page.text


def test_the_gallery_keeps_its_limit_and_shows_both(city, write):
    outcome = outcome_of(city.split, city.predictions, city.neighbours)
    assert choose_queries(outcome, 3).tolist() == [4, 3, 0]
    assert choose_queries(outcome, 0).tolist() == []
    assert sorted(choose_queries(outcome, 100).tolist()) == list(range(6))
    all_hits = dataclasses.replace(outcome, first_hit=outcome.first_hit * 0 + 1)
    assert choose_queries(all_hits, 3).tolist() == [0, 2, 5]
    page = Page(write(max_queries=3))
    assert len(page.of_class("card")) == 3 and "3 of 6 queries" in page.text


def test_a_folder_that_cannot_be_is_one_line(city, tmp_path):
    args = city.results, city.split, city.predictions, city.neighbours
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match=r"report\.html: cannot be written \(.*(exists|directory)"):
        write_report(tmp_path / "file" / "report.html", *args)
