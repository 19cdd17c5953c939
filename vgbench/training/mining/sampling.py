"""Random draws and set operations for many queries at once, without a loop over them."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from vgbench.data import Neighbours

Rows = NDArray[np.int64]

# Up to this many items an item wanted, every item gets a random key; beyond it, drawing with replacement is cheaper.
_DENSE_RATIO = 4


def sample_distinct(rng: np.random.Generator, rows: int, count: int, population: int) -> Rows:
    """Draw `count` distinct items of range(population) for each of `rows`, independently and uniformly.

    Returns:
        int64 [rows, min(count, population)], in the order drawn.
    """
    count = min(count, population)
    if population <= _DENSE_RATIO * count:
        keys = rng.random((rows, population), dtype=np.float32)
        return np.argsort(keys, axis=1)[:, :count].astype(np.int64)
    # Draw with replacement more than are needed and forget the repeats: that is drawing without replacement, one
    # after the other. The few rows that come out short are drawn again.
    drawn = np.empty((rows, count), dtype=np.int64)
    missing = np.arange(rows)
    while missing.size:
        tries = rng.integers(population, size=(missing.size, count + count // 2 + 8))
        first = _first_occurrences(tries)
        enough = first.sum(axis=1) >= count
        kept = tries[enough]
        order = np.argsort(~first[enough], axis=1, kind="stable")[:, :count]
        drawn[missing[enough]] = np.take_along_axis(kept, order, axis=1)
        missing = missing[~enough]
    return drawn


def _first_occurrences(values: Rows) -> NDArray[np.bool_]:
    """Mark, in each row, the places where a value comes for the first time."""
    order = np.argsort(values, axis=1, kind="stable")
    ordered = np.take_along_axis(values, order, axis=1)
    fresh = np.ones(values.shape, dtype=bool)
    fresh[:, 1:] = ordered[:, 1:] != ordered[:, :-1]
    first = np.empty_like(fresh)
    np.put_along_axis(first, order, fresh, axis=1)
    return first


def pairs_of(neighbours: Neighbours, queries: Rows) -> tuple[Rows, Rows]:
    """Return the neighbours of `queries` [T] as pairs: position in `queries` [n], database row [n], sorted by both."""
    starts = neighbours.indptr[queries]
    counts = neighbours.indptr[queries + 1] - starts
    position = np.repeat(np.arange(queries.size, dtype=np.int64), counts)
    offset = np.arange(position.size, dtype=np.int64) - np.repeat(np.cumsum(counts) - counts, counts)
    return position, neighbours.indices[np.repeat(starts, counts) + offset].astype(np.int64, copy=False)


def drop_neighbours(candidates: Rows, neighbours: Neighbours, queries: Rows, population: int) -> Rows:
    """Return `candidates` [T,C] (database rows, -1 = none) with the neighbours of each query replaced by -1."""
    position, row = pairs_of(neighbours, queries)
    if not position.size:
        return candidates
    known = position * population + row  # sorted, since pairs_of is
    wanted = np.arange(queries.size, dtype=np.int64)[:, None] * population + candidates
    at = np.minimum(np.searchsorted(known, wanted), known.size - 1)
    return np.where((candidates < 0) | (known[at] == wanted), -1, candidates)


def compact(candidates: Rows, count: int) -> Rows:
    """Return the first `count` entries that are not -1 of each row, in order, filled up with -1: int64 [T,count]."""
    order = np.argsort(candidates < 0, axis=1, kind="stable")[:, :count]
    taken = np.take_along_axis(candidates, order, axis=1)
    short = count - taken.shape[1]
    return np.pad(taken, ((0, 0), (0, short)), constant_values=-1) if short else taken


def repeat_to_fill(negatives: Rows) -> Rows:
    """Fill the trailing -1 of each row [T,N] by repeating what the row has, in order; a row of only -1 stays so."""
    have = np.maximum((negatives >= 0).sum(axis=1, keepdims=True), 1)
    return np.take_along_axis(negatives, np.arange(negatives.shape[1])[None, :] % have, axis=1)
