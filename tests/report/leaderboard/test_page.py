import json
from html.parser import HTMLParser

import pytest

from vgbench.cli.leaderboard import main
from vgbench.errors import UserError
from vgbench.report.leaderboard import write_leaderboard
from vgbench.report.leaderboard.entries import read_entries


@pytest.fixture
def logs(tmp_path):
    """Four results of two datasets, one that is broken, and one report."""
    for number, (dataset, dim, r1) in enumerate((("york", 256, 50.0), ("york", 7168, 80.0), ("<bath>", 64, 9.0))):
        folder = tmp_path / "logs" / "some" / f"run {number}"
        folder.mkdir(parents=True)
        content = {
            "dataset": dataset, "recalls": {"25": {"1": r1, "5": 90.0}}, "descriptors_dim": dim, "queries": 10,
            "network": {"backbone": "resnet18conv4", "aggregation": "gem"}, "rerank": [{"name": "spatial"}],
            "seconds": {"extract_queries": 1.0, "search": 0.5},
        }  # fmt: skip
        (folder / "results.json").write_text(json.dumps(content))
    (tmp_path / "logs" / "some" / "run 1" / "report.html").write_text("a report")
    (tmp_path / "logs" / "broken").mkdir()
    (tmp_path / "logs" / "broken" / "results.json").write_text('{"dataset": "york", "rec')
    return tmp_path / "logs"


class Page(HTMLParser):
    def __init__(self):
        super().__init__()
        self.rows, self.links, self.heads, self.labels, self.choices, self.select = [], [], 0, [], [], ""

    def handle_starttag(self, tag, attrs):
        found = dict(attrs)
        if tag == "tr" and "data-dataset" in found:
            self.rows.append([])
        self.labels += [found["data-label"]] if "data-label" in found else []
        self.select = found.get("id", "") if tag == "select" else self.select
        self.choices += [found["value"]] if tag == "option" and self.select == "order" else []
        if tag == "td":
            self.rows[-1].append(found["data-sort"])
        if tag == "th":
            self.heads += 1
        if tag == "a":
            self.links.append(found["href"])


def test_every_result_is_a_row_best_first(logs):
    path = write_leaderboard(logs)
    page = Page()
    page.feed(path.read_text())
    assert [row[1] for row in page.rows] == ["<bath>", "york", "york"]
    assert [float(row[2]) for row in page.rows[1:]] == [80.0, 50.0]
    assert all(len(row) == page.heads for row in page.rows)
    assert "some/run%201/report.html" in page.links, "the report of a run is a link that opens from disk"
    assert page.rows[1][0] == "resnet18conv4 + gem + spatial run 1"


def test_results_of_one_network_are_told_apart(logs):
    """By the options in which they differ; by their folders where there are none."""
    content = json.loads((logs / "some" / "run 1" / "results.json").read_text())
    for name, order, resize in (
        ("a", "size", None),
        ("b", "distance", None),
        ("c", "distance", [64, 96]),
        ("d", "distance", None),
    ):
        options = {"spatial_order": order, "resize": resize, "run_dir": f"logs/{name}"}
        folder = logs / "other" / name / "eval-1"
        folder.mkdir(parents=True)
        given = ["spatial_order", "run_dir", *(["resize"] if resize else [])]
        told = {**content, "dataset": "rome", "options": options, "options_set": given}
        (folder / "results.json").write_text(json.dumps(told))
    texts = {one.run: one.told_apart for one in read_entries(logs)}
    assert texts["other/a/eval-1"] == "spatial_order size"
    assert texts["other/b/eval-1"] == "spatial_order distance, b"
    assert texts["other/c/eval-1"] == "resize 64 96, spatial_order distance"
    assert texts["other/d/eval-1"] == "spatial_order distance, d"
    assert texts["some/run 0"] == "run 0", "of the same network and dataset as run 1"
    page = Page()
    page.feed(write_leaderboard(logs).read_text())
    assert len({(row[0], row[1]) for row in page.rows}) == len(page.rows)


def test_on_a_phone_each_number_says_what_it_is(logs):
    """There the table's head is not shown: what stands in it stands beside each number, and in the list to sort by."""
    text = write_leaderboard(logs).read_text()
    page = Page()
    page.feed(text)
    labels = ["R@1", "R@5", "dim", "ms per query", "bytes per image", "date"]
    assert page.labels == labels * len(page.rows)
    assert page.choices == ["", "0", "1", "2", "3", "4", "5", "6", "7", "8"] and page.heads == 9


def test_costs_are_those_of_the_tables(logs):
    best = read_entries(logs)[1]
    assert best.costs["bytes per image"] == 4 * 7168 and best.costs["ms per query"] == 150.0


def test_drawings_for_papers(logs):
    write_leaderboard(logs)
    drawn = sorted(path.name for path in (logs / "leaderboard").iterdir())
    assert drawn == ["york-bytes-per-image.pdf", "york-bytes-per-image.svg"] or len(drawn) == 4
    assert (logs / "leaderboard" / "york-bytes-per-image.pdf").read_bytes().startswith(b"%PDF")


def test_the_same_results_are_the_same_page(logs):
    assert write_leaderboard(logs).read_bytes() == write_leaderboard(logs).read_bytes()


def test_names_are_escaped(logs):
    assert "<bath>" not in write_leaderboard(logs).read_text()


def test_no_results_are_one_line(tmp_path, capsys):
    with pytest.raises(UserError, match="no results"):
        main([str(tmp_path / "nowhere")])
