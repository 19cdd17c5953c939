"""Places as cells of a grid, image by image."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from vgbench.data.cells import derive_places, rows_by_label
from vgbench.data.table import ImageTable, TableBuilder


def table_of(rows: list[tuple[float, float, float]]) -> ImageTable:
    builder = TableBuilder()
    for number, (east, north, heading) in enumerate(rows):
        builder.add(f"{number}.jpg", east, north, heading)
    return builder.build(Path("nowhere"))


ROWS = st.lists(
    st.tuples(st.floats(0, 300), st.floats(0, 300), st.floats(0, 359.9) | st.just(math.nan)), min_size=1, max_size=60
)


@settings(max_examples=60, deadline=None)
@given(ROWS, st.sampled_from([7.0, 20.0, 55.0]), st.sampled_from([30.0, 90.0, 100.0]))
def test_places_are_cells_and_bins(rows: list[tuple[float, float, float]], side: float, width: float) -> None:
    labels = derive_places(table_of(rows), side=side, bin_width=width, origin=(1.5, -2.0), turn=-15.0)
    heading = [np.float32(row[2]) for row in rows]
    keys = [
        (
            math.floor((e - 1.5) / side),
            math.floor((n + 2.0) / side),
            None if math.isnan(h) else (h + 15.0) % 360 // width,
        )
        for (e, n, _), h in zip(rows, heading, strict=True)
    ]
    for i, one in enumerate(keys):
        for j, other in enumerate(keys):
            assert (labels[i] == labels[j]) == (one == other)
    assert sorted(set(labels.tolist())) == list(range(len(set(keys))))


def test_rows_by_label() -> None:
    rows, starts = rows_by_label(np.array([2, 0, 2, 1, 0]))
    assert rows.tolist() == [1, 4, 3, 0, 2] and starts.tolist() == [0, 2, 3, 5]
