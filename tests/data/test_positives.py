from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

import vgbench.data.positives
from vgbench.data.positives import Neighbours, neighbours_within, squared_metres

# Whole metres, so that many pairs lie exactly on the radius, where inclusive and exclusive differ.
POINTS = st.integers(0, 20).flatmap(lambda n: arrays(np.float64, (n, 2), elements=st.integers(-15, 15).map(float)))


def reference(queries: np.ndarray, database: np.ndarray, radius: float) -> list[list[int]]:
    return [[i for i, d in enumerate(database) if (q - d) @ (q - d) <= radius * radius] for q in queries]


@given(POINTS, POINTS, st.integers(0, 20), st.sampled_from([0, vgbench.data.positives.FEW_PAIRS]))
def test_neighbours_are_those_of_a_plain_comparison(
    queries: np.ndarray, database: np.ndarray, radius: int, few: int
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(vgbench.data.positives, "FEW_PAIRS", few)
        found = neighbours_within(queries, database, radius)
    expected = reference(queries, database, radius)
    assert [found.of(q).tolist() for q in range(len(queries))] == expected
    assert found.counts.tolist() == [len(rows) for rows in expected]
    assert found.without().tolist() == [q for q, rows in enumerate(expected) if not rows]
    brute = Neighbours.brute(queries, database, radius)
    assert (found.indptr == brute.indptr).all() and (found.indices == brute.indices).all()
    assert found.indptr.dtype == found.indices.dtype == brute.indices.dtype == np.int64
    assert len(found) == len(queries)


@pytest.mark.parametrize("few", [0, 2**20])  # by a tree; by comparing
def test_blocks_of_queries_join(monkeypatch: pytest.MonkeyPatch, few: int) -> None:
    random = np.random.default_rng(0)
    queries, database = random.uniform(0, 200, (103, 2)), random.uniform(0, 200, (500, 2))
    for name, value in {"_QUERIES_AT_ONCE": 10, "_PAIRS_AT_ONCE": 4999, "FEW_PAIRS": few}.items():
        monkeypatch.setattr(vgbench.data.positives, name, value)
    found, brute = neighbours_within(queries, database, 25), Neighbours.brute(queries, database, 25)
    assert brute.counts.sum() > 1000
    assert (found.indptr == brute.indptr).all() and (found.indices == brute.indices).all()
    blocks = list(squared_metres(queries, database))
    assert len(blocks) > 10 and (np.concatenate(blocks) <= 625).sum() == brute.counts.sum()


def test_utm_sized_coordinates_with_a_dozen_images_a_point() -> None:
    random = np.random.default_rng(1)
    points = np.round(random.uniform([500000, 4170000], [501000, 4171000], (300, 2)), 2)
    database = np.repeat(points, 12, axis=0)[random.permutation(3600)]
    queries = np.round(random.uniform([500000, 4170000], [501000, 4171000], (50, 2)), 2)
    found, brute = neighbours_within(queries, database, 25), Neighbours.brute(queries, database, 25)
    assert brute.counts.sum() > 100 and (found.indptr == brute.indptr).all() and (found.indices == brute.indices).all()


def test_from_csr_sorts_within_queries() -> None:
    found = Neighbours.from_csr(np.array([0, 3, 3, 5]), np.array([4, 0, 2, 9, 1]))
    assert [found.of(q).tolist() for q in range(3)] == [[0, 2, 4], [], [1, 9]]
    assert found.of(-1).tolist() == [1, 9]
    with pytest.raises(IndexError):
        found.of(3)


@pytest.mark.parametrize("indptr", [[], [1, 2], [0, 3], [0, 3, 1, 2]])
def test_from_csr_refuses_what_does_not_fit(indptr: list[int]) -> None:
    with pytest.raises(ValueError, match="indptr"):
        Neighbours.from_csr(np.array(indptr), np.array([0, 1]))


@pytest.mark.parametrize("radius", [-1.0, float("nan")])
def test_a_radius_is_a_distance(radius: float) -> None:
    with pytest.raises(ValueError, match="radius"):
        neighbours_within(np.zeros((1, 2)), np.zeros((1, 2)), radius)


def test_coordinates_are_pairs() -> None:
    with pytest.raises(ValueError, match=r"\[N,2\]"):
        neighbours_within(np.zeros((1, 3)), np.zeros((1, 2)), 1)
