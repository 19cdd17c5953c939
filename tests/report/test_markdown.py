import pytest

from vgbench.report.labels import dataset_label
from vgbench.report.markdown import escape_cell, recall_table, results_table


def result(name, r1, r5, dataset="pitts30k", dim=256, **more):
    recalls = {"25": {"1": r1, "5": r5}}
    return {"name": name, "dataset": dataset, "recalls": recalls, "descriptors_dim": dim, **more}


def cells(table):
    """The rows of a markdown table as lists of cells, header first."""
    rows = [line for line in table.splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in row.strip("|").split("|")] for row in rows[:1] + rows[2:]]


def test_a_row_a_run_and_the_best_in_bold():
    table = results_table(
        [result("gem", 50.04, 80.0), result("gem", 30, 40, "msls"), result("netvlad", 60.0, 79.94, dim=7168)]
    )
    assert cells(table) == [
        ["run", "dim", "pitts30k R@1", "pitts30k R@5", "msls R@1", "msls R@5"],
        ["gem", "256", "50.0", "**80.0**", "**30.0**", "**40.0**"],
        ["netvlad", "7168", "**60.0**", "79.9", "", ""],
    ]


def test_equal_as_printed_is_equally_bold():
    rows = cells(results_table([result("a", 50.01, 1), result("b", 49.96, 2)]))
    assert rows[1][2] == rows[2][2] == "**50.0**"


def test_published_numbers_are_below_in_italics_and_never_bold():
    published = [
        {"name": "resnet18-gem", "dataset": "pitts30k", "recalls": {"25": {"1": 77.8}}},
        {"name": "other", "dataset": "nordland", "recalls": {"25": {"1": 12.0}}},
    ]
    rows = cells(results_table([result("ours", 50.0, 80.0)], published=published))
    assert rows[1:] == [["ours", "256", "**50.0**", "**80.0**"], ["_resnet18-gem_", "", "77.8", ""]]


def test_failures_are_listed_and_marked():
    table = results_table(
        [result("good", 1, 2)], failures={"bad|run": "out of\n*memory* `here`"}, order=["bad|run", "good"]
    )
    assert "- bad\\|run: `out of *memory* 'here'`" in table
    lines = table.splitlines()
    assert lines[2].startswith("| bad\\|run") and "failed" in lines[2]
    assert lines[3].startswith("| good")


def test_nothing_at_all_is_still_a_table():
    assert cells(results_table([]))[0] == ["run", "dim"]


@pytest.mark.parametrize(
    ("more", "label"),
    [
        ({}, "tokyo"),
        ({"queries_folder": "queries_night"}, "tokyo night"),
        ({"split": "val"}, "tokyo val"),
        ({"recalls": {"10": {"1": 5.0}, "25": {"1": 6.0}}}, "tokyo (10 m)"),
    ],
)
def test_dataset_label_says_what_is_unusual(more, label):
    assert dataset_label({**result("x", 1, 2, "tokyo"), **more}) == label


def test_recall_table_has_a_row_a_threshold():
    table = recall_table({"recalls": {"25": {"1": 50.0, "5": 75.25}, "5.5": {"1": 10.0}}})
    assert cells(table) == [["within", "R@1", "R@5"], ["25 m", "50.0", "75.2"], ["5.5 m", "10.0", ""]]


def test_escape_cell():
    assert escape_cell("a|b\n*c* `d` <e>") == "a\\|b \\*c\\* \\`d\\` \\<e>"
