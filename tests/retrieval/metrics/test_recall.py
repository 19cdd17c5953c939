"""Recall@N against the definition, a query at a time."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vgbench.data import Neighbours
from vgbench.retrieval.metrics.recall import hits, milliseconds_text, recall_table, recalls


def neighbours_of(rows: list[list[int]]) -> Neighbours:
    indptr = np.cumsum([0, *map(len, rows)])
    return Neighbours.from_csr(indptr, np.array([i for row in rows for i in row], dtype=np.int64))


@given(
    positives=st.lists(st.lists(st.integers(0, 30), unique=True, max_size=6), min_size=1, max_size=12),
    predictions=st.integers(1, 12),
    seed=st.integers(0, 10_000),
)
def test_recalls_follow_the_definition(positives: list[list[int]], predictions: int, seed: int) -> None:
    random = np.random.default_rng(seed)
    indices = np.stack([random.permutation(31)[:predictions] for _ in positives])
    values = (1, 3, 5, 40)
    expected = [
        100 * sum(bool(set(row[:n].tolist()) & set(right)) for row, right in zip(indices, positives, strict=True))
        / len(positives)
        for n in values
    ]  # fmt: skip
    np.testing.assert_allclose(recalls(indices, neighbours_of(positives), values), expected)


def test_a_query_without_positives_is_a_miss() -> None:
    indices = np.array([[3, 1], [2, 0], [4, 2]])
    np.testing.assert_allclose(recalls(indices, neighbours_of([[1], [], [4, 9]]), (1, 2)), [100 / 3, 200 / 3])
    np.testing.assert_allclose(recalls(indices, neighbours_of([[], [], []]), (1, 2)), [0, 0])


def test_hits_marks_each_prediction() -> None:
    indices = np.array([[3, 1, 0], [2, 0, 1]])
    np.testing.assert_array_equal(hits(indices, neighbours_of([[0, 3], [1]])), [[1, 0, 1], [0, 0, 1]])


def test_rows_beyond_32_bits_when_numbered_with_their_query() -> None:
    rows = [[2_799_999], [5], [2_800_000 - 2]] * 2_000
    indices = np.array([[2_799_999], [6], [2_799_998]] * 2_000)
    np.testing.assert_allclose(recalls(indices, neighbours_of(rows), (1,)), [200 / 3])


def test_several_thresholds_at_once() -> None:
    indices = np.array([[0], [1]])
    table = recall_table(indices, {5.0: neighbours_of([[0], []]), 25.0: neighbours_of([[0], [1, 2]])}, (1,))
    assert table == {5.0: {1: 50.0}, 25.0: {1: 100.0}}


@pytest.mark.parametrize(
    ("indices", "values"), [(np.zeros((0, 3), np.int64), (1,)), (np.zeros((2, 3), np.int64), (0, 1))]
)
def test_nonsense_is_refused(indices: np.ndarray, values: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="recall needs"):
        recalls(indices, neighbours_of([[]] * len(indices)), values)


def test_wrong_number_of_queries_is_refused() -> None:
    with pytest.raises(ValueError, match="2 queries, positives for 1"):
        recalls(np.zeros((2, 3), np.int64), neighbours_of([[1]]), (1,))


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.0, "0"), (4e-4, "0"), (0.00123, "0.00123"), (0.5, "0.5"), (6.926, "6.93"), (99.96, "100"), (291.4, "291"),
        (999.6, "1,000"), (6926.4, "6,930"), (1.5e6, "1,500,000"),
    ],
)  # fmt: skip
def test_milliseconds_have_three_digits_and_no_exponent(value, text):
    assert milliseconds_text(value) == text
