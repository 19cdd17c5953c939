"""Which database images show the place of which query: everything within a radius, in compressed rows."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import chain

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree

_QUERIES_AT_ONCE = 1024  # the tree answers with Python lists, which this keeps few


@dataclass(frozen=True, eq=False)
class Neighbours:
    """For each of Q queries the database rows within a radius.

    Attributes:
        indptr: int64 [Q+1], where each query's rows start in `indices`.
        indices: int64 [nnz], database rows, ascending within a query.
    """

    indptr: NDArray[np.int64]
    indices: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.indptr) - 1

    def of(self, query: int) -> NDArray[np.int64]:
        """Return the database rows of one query, int64 [n], ascending (a view)."""
        query = range(len(self))[query]
        return self.indices[self.indptr[query] : self.indptr[query + 1]]

    def select(self, queries: NDArray[np.int64]) -> Neighbours:
        """Return those of some queries, int64 [M], in that order."""
        rows = [self.of(int(query)) for query in queries]
        indptr = np.concatenate([[0], np.cumsum([len(one) for one in rows], dtype=np.int64)]).astype(np.int64)
        return Neighbours(indptr, np.concatenate(rows) if rows else np.empty(0, np.int64))

    @property
    def counts(self) -> NDArray[np.int64]:
        """How many database rows each query has, int64 [Q]."""
        return np.diff(self.indptr)

    def without(self) -> NDArray[np.int64]:
        """Return the queries that have no database row, int64 [n], ascending."""
        return np.flatnonzero(self.counts == 0)

    @classmethod
    def from_csr(cls, indptr: NDArray[np.int64], indices: NDArray[np.int64]) -> Neighbours:
        """Check, sort within queries and wrap two CSR arrays, int64 [Q+1] and [M]; ValueError where they do not fit."""
        indptr, indices = np.asarray(indptr, np.int64), np.asarray(indices, np.int64)
        if indptr.ndim != 1 or not len(indptr) or indptr[0] != 0 or indptr[-1] != len(indices):
            raise ValueError("indptr must start at 0 and end at len(indices)")
        counts = np.diff(indptr)
        if (counts < 0).any():
            raise ValueError("indptr must not decrease")
        rows = np.repeat(np.arange(len(counts)), counts)
        return cls(indptr, indices[np.lexsort((indices, rows))])

    @classmethod
    def brute(cls, queries_utm: NDArray[np.float64], database_utm: NDArray[np.float64], radius_m: float) -> Neighbours:
        """Compare every pair of positions [Q,2] and [N,2], O(Q N) memory: the reference of `neighbours_within`."""
        _check(queries_utm, database_utm, radius_m)
        near = ((queries_utm[:, None] - database_utm[None]) ** 2).sum(-1) <= radius_m**2
        indptr = np.concatenate([[0], np.cumsum(near.sum(1))]).astype(np.int64)
        return cls(indptr, np.nonzero(near)[1].astype(np.int64))


def neighbours_within(
    queries_utm: NDArray[np.float64], database_utm: NDArray[np.float64], radius_m: float
) -> Neighbours:
    """Find the database images within a radius of each query with a k-d tree.

    Args:
        queries_utm: float64 [Q,2], metres.
        database_utm: float64 [N,2], metres.
        radius_m: metres, inclusive.

    Raises:
        ValueError: arrays of another shape, or a radius that is negative or not a number.
    """
    _check(queries_utm, database_utm, radius_m)
    indptr = np.zeros(len(queries_utm) + 1, np.int64)
    if not len(database_utm) or not len(queries_utm):
        return Neighbours(indptr, np.empty(0, np.int64))
    # Street view has a dozen images at the very same point; a balanced tree splits such points again and again.
    tree = cKDTree(database_utm, leafsize=32, balanced_tree=False)
    parts: list[NDArray[np.int64]] = []
    for start in range(0, len(queries_utm), _QUERIES_AT_ONCE):
        block = queries_utm[start : start + _QUERIES_AT_ONCE]
        found = tree.query_ball_point(block, radius_m, workers=-1, return_sorted=True)
        counts = np.fromiter(map(len, found), np.int64, len(block))
        indptr[start + 1 : start + 1 + len(block)] = counts
        parts.append(np.fromiter(chain.from_iterable(found), np.int64, int(counts.sum())))
    return Neighbours(np.cumsum(indptr), np.concatenate(parts))


def _check(queries_utm: NDArray[np.float64], database_utm: NDArray[np.float64], radius_m: float) -> None:
    for utm in (queries_utm, database_utm):
        if utm.ndim != 2 or utm.shape[1] != 2:
            raise ValueError(f"UTM coordinates must be [N,2], not {list(utm.shape)}")
    if not radius_m >= 0:
        raise ValueError(f"the radius must be 0 m or more, not {radius_m}")
