"""Cells, CosPlace's groups and EigenPlaces' views, against definitions written out image by image."""

from __future__ import annotations

import math
from collections import defaultdict
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vgbench.data.cells import heading_bins
from vgbench.data.classes import cosplace_groups, eigenplaces_groups, focal_points, looks_at
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
@given(ROWS)
def test_groups_of_cosplace(rows: list[tuple[float, float, float]]) -> None:
    side, angle, spacing, turns, at_least = 30.0, 60.0, 3, 2, 2
    groups = cosplace_groups(
        table_of(rows), side=side, angle=angle, spacing=spacing, turns=turns, at_least=at_least, most=99
    )
    heading = heading_bins(np.array([row[2] for row in rows], np.float32), angle)
    images: dict[tuple[int, int, int], set[int]] = defaultdict(set)
    for number, (east, north, _) in enumerate(rows):
        images[(math.floor(east / side), math.floor(north / side), int(heading[number]))].add(number)
    expected: dict[tuple[int, int, int], set[frozenset[int]]] = defaultdict(set)
    for (e, n, h), members in images.items():
        if len(members) >= at_least:
            expected[(e % spacing, n % spacing, h % turns)].add(frozenset(members))
    wanted = [expected[key] for key in sorted(expected) if len(expected[key]) > 1]
    found = [{frozenset(c.rows[c.starts[k] : c.starts[k + 1]].tolist()) for k in range(len(c))} for (c,) in groups]
    assert found == wanted


def test_the_number_of_groups_is_limited_and_classes_of_a_group_stand_apart() -> None:
    rng = np.random.default_rng(0)
    rows = [(*rng.uniform(0, 200, 2), rng.uniform(0, 360)) for _ in range(4000)]
    table = table_of(rows)
    groups = cosplace_groups(table, side=10, angle=30, spacing=4, turns=2, at_least=1, most=5)
    assert len(groups) == 5
    (classes,) = groups[0]
    cells = np.floor(table.utm / 10)
    of_class = [np.unique(cells[classes.rows[classes.starts[k] : classes.starts[k + 1]]], axis=0) for k in range(5)]
    assert all(len(cell) == 1 for cell in of_class)
    ours = np.concatenate(of_class)
    apart = np.abs(ours[:, None] - ours[None]).max(-1)
    assert set(np.unique(apart)) <= set(range(0, 40, 4))


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 99), st.booleans())
def test_focal_points_lie_on_principal_components(seed: int, lateral: bool) -> None:
    rng = np.random.default_rng(seed)
    utm = rng.normal(size=(40, 2)) * [9, 2] @ [[0.6, 0.8], [-0.8, 0.6]] + [5e5, 4e6]
    labels = np.repeat([0, 1], [25, 15])
    points = focal_points(utm, labels, 10.0, lateral=lateral)
    for label in (0, 1):
        own = utm[labels == label]
        axes = np.linalg.svd(own - own.mean(0))[2]
        offset = points[label] - own.mean(0)
        assert abs(offset @ axes[0 if lateral else 1]) < 1e-3
        assert np.linalg.norm(offset) == pytest.approx(10, abs=1e-6) and offset[1] > 0


def test_who_looks_at_a_point() -> None:
    table = table_of([(0, 0, 0), (0, 0, 44), (0, 0, 46), (0, 0, 350), (10, 10, 225), (0, 0, math.nan)])
    points = np.tile([[0.0, 10.0]], (6, 1))
    points[4] = [0, 0]
    assert looks_at(table, points, 45).tolist() == [True, True, False, True, True, False]


def test_lateral_and_frontal_classes_of_eigenplaces() -> None:
    """Streets to the north, pictures in four directions: lateral ones look east or west, frontal ones north."""
    rows = [
        (100 * street + side, 3.0 * step + 60 * block, heading)
        for street in range(3) for block in range(3) for side in (0.0, 0.5) for step in range(5)
        for heading in (0, 90, 180, 270)
    ]  # fmt: skip
    table = table_of(rows)
    groups = eigenplaces_groups(table, side=20, spacing=2, focal=10, tolerance=40, at_least=3, most=99)
    assert len(groups) >= 2
    for lateral, frontal in groups:
        assert len(lateral) > 1 and len(frontal) > 1
        # The point across the street is 10 m away and the cell 12 m long: seen from its ends it is 31 degrees off.
        assert set(table.heading[lateral.rows]) in ({90.0}, {270.0})
        assert 0.0 in table.heading[frontal.rows] and not {90.0, 270.0} & set(table.heading[frontal.rows])


def test_draws_go_through_all_classes() -> None:
    rng = np.random.default_rng(0)
    table = table_of([(*rng.uniform(0, 100, 2), 10.0) for _ in range(500)])
    ((classes,), *_) = cosplace_groups(table, side=10, angle=30, spacing=1, turns=1, at_least=1, most=1)
    rows, labels = classes.draw(2 * len(classes) + 3, np.random.default_rng(1))
    assert (
        sorted(labels[: len(classes)]) == list(range(len(classes))) == sorted(labels[len(classes) : 2 * len(classes)])
    )
    for row, label in zip(rows, labels, strict=True):
        assert row in classes.rows[classes.starts[label] : classes.starts[label + 1]]
