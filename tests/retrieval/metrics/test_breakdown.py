"""R@1 by field, on names whose fields are known, beside plain loops."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest

from vgbench.data import ImageTable, Split, neighbours_within
from vgbench.data.table import TableBuilder
from vgbench.retrieval.metrics.breakdown import breakdown, heading_differences, nearest_metres


def table(rows: list[tuple[float, float, float, str, str]]) -> ImageTable:
    builder = TableBuilder()
    for number, (east, north, heading, time, note) in enumerate(rows):
        builder.add(f"{number}.jpg", east, north, heading, time, note)
    return builder.build(Path("nowhere"))


DATABASE = table(
    [
        (0, 0, 10, "", ""), (0, 0, 100, "", ""), (0, 0, 350, "", ""),  # a panorama
        (40, 0, 180, "", ""), (500, 0, math.nan, "", ""),
    ]
)  # fmt: skip


def split_of(rows: list[tuple[float, float, float, str, str]]) -> Split:
    return Split("test", Path("nowhere"), DATABASE, table(rows))


@pytest.mark.parametrize("few", [0, 100])  # by a tree; by comparing
def test_the_nearest_positive_that_looks_most_alike(monkeypatch: pytest.MonkeyPatch, few: int) -> None:
    monkeypatch.setattr("vgbench.retrieval.metrics.breakdown.FEW_PAIRS", few)
    split = split_of([(1, 0, 355, "", ""), (38, 0, 0, "", ""), (500, 1, 5, "", ""), (900, 0, 5, "", "")])
    near = neighbours_within(split.queries.utm, DATABASE.utm, 25)
    metres = nearest_metres(split)
    np.testing.assert_allclose(metres, [1, 2, 1, 400])
    found = heading_differences(split, near, metres)
    assert found[:2].tolist() == [5, 180] and np.isnan(found[2:]).all()


def test_every_field_that_is_known() -> None:
    rows = [
        (1, 0, 355, "20210115_090000", "day"), (1, 0, 60, "20210215_095900", "day"),
        (38, 0, 0, "20210115_230000", "night"), (900, 0, 5, "20211315_990000", "night"),
        (500, 1, 5, "2021", "night"),
    ]  # fmt: skip
    split = split_of(rows)
    right = np.array([True, False, True, False, True])
    found = breakdown(split, neighbours_within(split.queries.utm, DATABASE.utm, 25), right)
    plain = {name: [(r["value"], r["queries"], r["recall_at_1"]) for r in rows] for name, rows in found.items()}
    assert plain == {
        "note": [("night", 3, 66.667), ("day", 2, 50.0)],
        "month": [("January", 2, 100.0), ("February", 1, 0.0)],
        "hour": [("09:00", 2, 50.0), ("23:00", 1, 100.0)],
        "heading_difference": [("0 to 15°", 1, 100.0), ("30 to 60°", 1, 0.0), ("over 120°", 1, 100.0)],
        "nearest_database_image": [("0 to 2 m", 4, 75.0), ("over 50 m", 1, 0.0)],
    }


def test_fields_that_nobody_wrote_are_left_out() -> None:
    split = split_of([(1, 0, math.nan, "", ""), (1, 1, math.nan, "", "")])
    near = neighbours_within(split.queries.utm, DATABASE.utm, 25)
    assert breakdown(split, near, np.array([True, False])) == {}


def test_notes_that_name_each_image_are_no_kinds_and_many_kinds_are_cut() -> None:
    split = split_of([(1, 0, 0, "", f"place{n}") for n in range(40)])
    near = neighbours_within(split.queries.utm, DATABASE.utm, 25)
    assert "note" not in breakdown(split, near, np.ones(40, bool))
    split = split_of([(1, 0, 0, "", f"kind{n % 25:02}") for n in range(100)])
    near = neighbours_within(split.queries.utm, DATABASE.utm, 25)
    notes = breakdown(split, near, np.arange(100) % 2 == 0)["note"]
    assert len(notes) == 21 and notes[-1]["value"] == "5 others"
    assert sum(row["queries"] for row in notes) == 100
