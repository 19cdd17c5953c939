"""Recall@N: the share of queries with a positive among their first N predictions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray


class NeighbourRows(Protocol):
    """The part of `data.positives.Neighbours` that recall needs."""

    @property
    def indptr(self) -> NDArray[np.int64]: ...

    @property
    def indices(self) -> NDArray[np.int64]: ...


def hits(indices: NDArray[np.int64], neighbours: NeighbourRows) -> NDArray[np.bool_]:
    """Say which predictions are right: bool [Q,K].

    Args:
        indices: int64 [Q,K], database rows, best first.
        neighbours: each query's positives, in the same order of queries.

    Raises:
        ValueError: the numbers of queries differ.
    """
    queries = len(neighbours.indptr) - 1
    if len(indices) != queries:
        raise ValueError(f"predictions for {len(indices)} queries, positives for {queries}")
    span = 1 + max(int(indices.max(initial=0)), int(neighbours.indices.max(initial=0)))
    rows = np.repeat(np.arange(queries), np.diff(neighbours.indptr))
    # One sorted list of (query, database row) numbers answers every prediction by bisection.
    right = np.sort(rows * span + neighbours.indices)
    asked = np.arange(queries)[:, None] * span + indices
    if len(right) == 0:
        return np.zeros(indices.shape, dtype=np.bool_)
    position = np.searchsorted(right, asked)
    return np.asarray(right[np.minimum(position, len(right) - 1)] == asked)


def recalls(
    indices: NDArray[np.int64], neighbours: NeighbourRows, values: Sequence[int] = (1, 5, 10, 20)
) -> NDArray[np.float64]:
    """Compute recall@N in percent for each N in `values`: float64 [len(values)].

    A query without positives is a miss, as in the field's published numbers. An N beyond K counts all K predictions.

    Args:
        indices: int64 [Q,K], database rows, best first.
        neighbours: each query's positives, in the same order of queries.

    Raises:
        ValueError: there are no queries, their numbers differ, or an N is below 1.
    """
    if len(indices) == 0 or min(values, default=1) < 1:
        raise ValueError("recall needs at least one query and values of at least 1")
    found = hits(indices, neighbours)
    first_hit = np.where(found.any(axis=1), found.argmax(axis=1), np.iinfo(np.int64).max)
    return np.array([100.0 * np.mean(first_hit < value) for value in values], dtype=np.float64)


def recall_table(
    indices: NDArray[np.int64], neighbours: Mapping[float, NeighbourRows], values: Sequence[int]
) -> dict[float, dict[int, float]]:
    """Return recalls of predictions int64 [Q,K] at several thresholds: threshold in metres -> N -> percent."""
    return {
        threshold: dict(zip(map(int, values), recalls(indices, found, values).tolist(), strict=True))
        for threshold, found in neighbours.items()
    }


def milliseconds_text(value: float) -> str:
    """Write milliseconds to three digits, without an exponent: 0.123, 6.93, 6,930; below a microsecond 0."""
    rounded = float(f"{value:.3g}")
    if rounded >= 100:
        return f"{rounded:,.0f}"
    return f"{rounded:.3g}" if rounded >= 1e-3 else "0"
