"""The blocked, masked ranking against a float64 loop over queries."""

import weakref

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from vgbench.training.mining.hardest import rank


def naive_rank(queries, database, positives, negatives, count):
    """One query at a time: nearest positive, `count` nearest distinct candidates, -1 where there are fewer."""
    best, hard = [], []
    for t, query in enumerate(queries.astype(np.float64)):
        distance = ((database.astype(np.float64) - query) ** 2).sum(1)
        mine = positives[1][positives[0] == t]
        best.append(mine[distance[mine].argmin()] if mine.size else -1)
        far = np.unique(negatives[t][negatives[t] >= 0])
        far = far[distance[far].argsort(kind="stable")][:count]
        hard.append(np.pad(far, (0, count - far.size), constant_values=-1))
    return np.array(best), np.array(hard)


def in_batches(rows, descriptors, size):
    for start in range(0, len(rows), size):
        part = rows[start : start + size]
        yield torch.from_numpy(part), torch.from_numpy(descriptors[part])


@settings(max_examples=80, deadline=None)
@given(
    queries=st.integers(1, 7),
    database=st.integers(1, 90),
    width=st.integers(0, 25),
    count=st.integers(1, 6),
    batch=st.integers(1, 40),
    block_bytes=st.sampled_from([1, 2000, 10**6]),
    unit=st.booleans(),
    seed=st.integers(0, 10**6),
)
def test_agrees_with_a_loop_over_queries(queries, database, width, count, batch, block_bytes, unit, seed):
    rng = np.random.default_rng(seed)
    described = rng.standard_normal((queries, 6)).astype(np.float32)
    everything = rng.standard_normal((database, 6)).astype(np.float32)
    if unit:
        described /= np.linalg.norm(described, axis=1, keepdims=True)
        everything /= np.linalg.norm(everything, axis=1, keepdims=True)
    near = np.nonzero(rng.random((queries, database)) < 0.1)
    positives = (near[0].astype(np.int64), near[1].astype(np.int64))
    candidates = rng.integers(-1, database, size=(queries, width))
    rows = np.unique(np.concatenate([positives[1], candidates[candidates >= 0]]))
    ranked = rank(
        torch.from_numpy(described),
        in_batches(rows, everything, batch),
        rows,
        positives,
        candidates,
        count,
        block_bytes,
    )
    best, hard = naive_rank(described, everything, positives, candidates, count)
    assert ranked.positive.tolist() == best.tolist()
    assert ranked.negatives.tolist() == hard.tolist()


def test_equal_descriptors_do_not_lose_candidates():
    rows = np.arange(40)
    same = np.ones((40, 3), np.float32)
    none = (np.empty(0, np.int64), np.empty(0, np.int64))
    ranked = rank(torch.ones(2, 3), in_batches(rows, same, 7), rows, none, np.tile(rows, (2, 1)), 5, 1)
    assert (ranked.positive == -1).all()
    for row in ranked.negatives:
        assert len(set(row.tolist())) == 5 and row.min() >= 0


def test_rows_that_come_in_another_order_or_not_at_all_are_noticed():
    rows = np.arange(6)
    pairs = (np.zeros(1, np.int64), np.zeros(1, np.int64))
    data = np.ones((6, 2), np.float32)
    candidates = np.array([[3]])
    with pytest.raises(RuntimeError, match="order"):
        rank(torch.ones(1, 2), in_batches(rows[::-1].copy(), data, 3), rows, pairs, candidates, 1)
    with pytest.raises(RuntimeError, match="3 came"):
        rank(torch.ones(1, 2), in_batches(rows[:3], data, 3), rows, pairs, candidates, 1)


def test_descriptors_of_one_block_at_a_time_are_held():
    dim, batch, count = 512, 8, 400
    rng = np.random.default_rng(3)
    everything = rng.standard_normal((count, dim)).astype(np.float32)
    rows = np.arange(count)
    alive, most = [], []

    def batches():
        for part, descriptors in in_batches(rows, everything, batch):
            alive.append(weakref.ref(descriptors))
            most.append(sum(one() is not None for one in alive))
            yield part, descriptors
            del descriptors

    queries = torch.from_numpy(everything[:2] + 0.01)
    none = np.array([0, 1]), np.array([0, 1])
    ranked = rank(queries, batches(), rows, none, np.tile(rows[2:], (2, 1)), 3, block_bytes=32 * 4 * dim)
    assert len(most) == 50 and max(most) <= 6  # four batches make a block of 32 rows; two queries alone would take all
    expected = naive_rank(queries.numpy(), everything, none, np.tile(rows[2:], (2, 1)), 3)
    np.testing.assert_array_equal(ranked.positive, expected[0])
    np.testing.assert_array_equal(ranked.negatives, expected[1])
