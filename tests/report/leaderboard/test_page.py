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
        self.rows, self.links, self.heads = [], [], 0

    def handle_starttag(self, tag, attrs):
        found = dict(attrs)
        if tag == "tr" and "data-dataset" in found:
            self.rows.append([])
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
    assert page.rows[1][0] == "resnet18conv4 + gem + spatial"


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
