from statistics import mean, stdev

import numpy as np
import pytest

from vgbench.errors import UserError
from vgbench.report.markdown import markdown_text
from vgbench.report.tables import Column, build_table


def result(name, r1, r5=80.0, dataset="pitts30k", **more):
    return {"name": name, "dataset": dataset, "recalls": {"25": {"1": r1, "5": r5}}, "descriptors_dim": 256, **more}


R1 = Column("pitts30k", 1)


def test_seeds_become_a_mean_with_its_deviation():
    recalls = [50.0, 53.0, 49.0]
    table = build_table([result("gem", one) for one in recalls] + [result("netvlad", 60.0)])
    gem, netvlad = (row.cells[R1] for row in table.rows)
    assert gem.mean == pytest.approx(mean(recalls)) and gem.std == pytest.approx(stdev(recalls)) and gem.seeds == 3
    assert netvlad.std is None and (netvlad.place, gem.place) == (1, 2)
    text = markdown_text(table)
    assert "50.7 ± 2.1" in text and "**60.0**" in text and "over 3 seeds" in text


def test_equal_as_printed_is_equally_good():
    table = build_table([result("a", 50.01), result("b", 49.96), result("c", 40.0)])
    assert [row.cells[R1].place for row in table.rows] == [1, 1, 2]


def test_two_protocols_never_share_a_column():
    table = build_table([result("a", 1), result("a", 2, queries_folder="queries_740")], values=(1,))
    assert [column.dataset for column in table.columns] == ["pitts30k", "pitts30k 740"]


def test_costs():
    seconds = {"extract_queries": 2.0, "search": 1.0, "rerank": 1.0, "metrics": 9.0}
    one = result("a", 1, seconds=seconds, queries=100, train_seconds=90.0, rerank=[{"bytes_per_image": 10}])
    table = build_table([one], costs=("dim", "ms per query", "bytes per image", "train min"))
    assert table.rows[0].costs == ("256", "40.0", "1,034", "1.5")
    assert build_table([result("a", 1)], costs=("ms per query", "train min")).rows[0].costs == ("", "")


def test_differences_to_a_baseline_over_the_same_queries():
    rng = np.random.default_rng(0)
    base = np.where(rng.random(400) < 0.5, 0, -1)
    better = np.where(rng.random(400) < 0.3, 0, base)
    results = [
        result("base", 100 * (base == 0).mean(), first_positive_ranks=base),
        result("better", 100 * (better == 0).mean(), first_positive_ranks=better),
        result("other queries", 1.0, first_positive_ranks=base[:7]),
        result("unknown", 1.0),
    ]
    table = build_table(results, baseline="base")
    cells = {row.name: row.cells[R1].difference for row in table.rows}
    found = cells["better"]
    assert found.mean == pytest.approx(results[1]["recalls"]["25"]["1"] - results[0]["recalls"]["25"]["1"])
    assert 0 < found.low < found.mean < found.high
    assert cells["base"] is None and cells["other queries"] is None and cells["unknown"] is None


def test_an_unknown_baseline_is_answered_with_a_near_name():
    with pytest.raises(UserError, match="Did you mean netvlad"):
        build_table([result("netvlad", 1)], baseline="netvald")


def test_a_table_in_which_everything_failed_keeps_its_header():
    lines = markdown_text(build_table([], failures={"a": "no such folder"})).splitlines()
    assert lines[0].count("|") == lines[2].count("|") and "a: `no such folder`" in lines[-1]


def test_published_rows_come_last_and_are_not_placed():
    published = [result("theirs", 99.0), result("elsewhere", 1.0, dataset="nordland")]
    table = build_table([result("a", 50.0)], published=published)
    assert [(row.name, row.ours) for row in table.rows] == [("a", True), ("theirs", False)]
    assert table.rows[0].cells[R1].place == 1 and table.rows[1].cells[R1].place == 0
