"""Draws and set operations for many queries at once, against the same one query at a time."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vgbench.data import Neighbours
from vgbench.training.mining.sampling import compact, drop_neighbours, pairs_of, repeat_to_fill, sample_distinct


def random_neighbours(rng, queries, database):
    rows = [np.flatnonzero(rng.random(database) < rng.random()) for _ in range(queries)]
    indptr = np.concatenate([[0], np.cumsum([len(row) for row in rows])]).astype(np.int64)
    return Neighbours.from_csr(indptr, np.concatenate([*rows, []]).astype(np.int64))


@settings(max_examples=60, deadline=None)
@given(rows=st.integers(0, 6), count=st.integers(1, 12), population=st.integers(1, 100), seed=st.integers(0, 99))
def test_draws_are_distinct_and_in_range(rows, count, population, seed):
    drawn = sample_distinct(np.random.default_rng(seed), rows, count, population)
    assert drawn.shape == (rows, min(count, population)) and drawn.dtype == np.int64
    for row in drawn:
        assert len(set(row.tolist())) == len(row) and row.min() >= 0 and row.max() < population


@pytest.mark.parametrize("population", [9, 60])  # by keys, and with replacement
def test_every_item_comes_equally_often_at_every_place(population):
    drawn = sample_distinct(np.random.default_rng(0), 40_000, 3, population)
    expected = 40_000 / population
    for place in range(3):
        counts = np.bincount(drawn[:, place], minlength=population)
        assert np.abs(counts - expected).max() < 6 * np.sqrt(expected)
    assert len(np.unique(drawn[:50], axis=0)) > 40  # queries draw independently


@settings(max_examples=60, deadline=None)
@given(queries=st.integers(1, 6), database=st.integers(1, 20), taken=st.integers(0, 8), seed=st.integers(0, 999))
def test_pairs_and_dropping_agree_with_loops(queries, database, taken, seed):
    rng = np.random.default_rng(seed)
    neighbours = random_neighbours(rng, queries, database)
    chosen = rng.integers(queries, size=taken)
    position, row = pairs_of(neighbours, chosen)
    assert list(zip(position.tolist(), row.tolist(), strict=True)) == [
        (t, int(r)) for t, q in enumerate(chosen) for r in neighbours.of(int(q))
    ]
    candidates = rng.integers(-1, database, size=(taken, 7))
    kept = drop_neighbours(candidates, neighbours, chosen, database)
    for before, after, query in zip(candidates, kept, chosen, strict=True):
        near = set(neighbours.of(int(query)).tolist())
        assert after.tolist() == [-1 if c in near else int(c) for c in before]


@settings(max_examples=60, deadline=None)
@given(
    rows=st.lists(st.lists(st.integers(-1, 5), min_size=4, max_size=4), min_size=1, max_size=5),
    count=st.integers(1, 6),
)
def test_compact_and_repeat_agree_with_loops(rows, count):
    taken = compact(np.array(rows), count)
    assert taken.shape == (len(rows), count)
    filled = repeat_to_fill(taken)
    for row, got, full in zip(rows, taken, filled, strict=True):
        valid = [value for value in row if value >= 0][:count]
        assert got.tolist() == valid + [-1] * (count - len(valid))
        assert full.tolist() == [valid[i % len(valid)] if valid else -1 for i in range(count)]
