"""Nearest positive and hardest negatives of all queries of a round: masked matrix products, block by block.

The database streams through: only the queries' descriptors, one block of database descriptors and its scores are on
the device, so that memory depends on neither the database nor how many of its images per round compares.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

Rows = NDArray[np.int64]
# (rows int64 [b] on the CPU, descriptors float32 [b,D] on the device)
Described = Iterable[tuple[Tensor, Tensor]]

# Scores of one block (float32) and its two masks stay below about this, and so do its descriptors.
BLOCK_BYTES = 64 * 2**20


@dataclass(frozen=True)
class Ranked:
    """The choice of a round.

    Attributes:
        positive: int64 [T], the nearest of each query's positives (database row), -1 where it has none.
        negatives: int64 [T,K], the nearest of its candidate negatives, nearest first, -1 where there are fewer.
    """

    positive: Rows
    negatives: Rows


class _Pairs:
    """(query, column) pairs sorted by column, on the device, from which dense masks of column ranges are cut."""

    def __init__(self, query: Rows, column: Rows, device: torch.device) -> None:
        order = np.argsort(column, kind="stable")
        self._sorted = column[order]
        self._query = torch.from_numpy(query[order]).to(device)
        self._column = torch.from_numpy(self._sorted).to(device)

    def mask(self, queries: int, start: int, stop: int) -> Tensor:
        low, high = np.searchsorted(self._sorted, (start, stop))
        mask = torch.zeros(queries, stop - start, dtype=torch.bool, device=self._query.device)
        mask[self._query[low:high], self._column[low:high] - start] = True
        return mask


@torch.no_grad()
def rank(
    queries: Tensor,
    database: Described,
    rows: Rows,
    positives: tuple[Rows, Rows],
    negatives: Rows,
    count: int,
    block_bytes: int = BLOCK_BYTES,
) -> Ranked:
    """Choose each query's nearest positive and its `count` nearest candidate negatives (Euclidean distance).

    Args:
        queries: float32 [T,D] descriptors, on the device where the products run.
        database: (database rows int64 [b], descriptors float32 [b,D]) batches that together are `rows`, in order.
        rows: int64 [R], the database rows that are compared, sorted, without repeats.
        positives: pairs (query position [n], database row [n]).
        negatives: int64 [T,C] candidate database rows, -1 = none; repeats are harmless.
        count: K.
        block_bytes: bound on the memory of one block of scores, and on that of its descriptors.

    Raises:
        RuntimeError: fewer rows were described than were asked for.
    """
    device, total = queries.device, queries.shape[0]
    near = _Pairs(positives[0], np.searchsorted(rows, positives[1]), device)
    query_of, slot = np.nonzero(negatives >= 0)
    far = _Pairs(query_of, np.searchsorted(rows, negatives[query_of, slot]), device)

    best = torch.full((total, 1), -torch.inf, device=device)
    best_column = torch.full((total, 1), -1, dtype=torch.int64, device=device)
    hard = torch.full((total, count), -torch.inf, device=device)
    hard_column = torch.full((total, count), -1, dtype=torch.int64, device=device)
    start = 0
    at_once = max(16, min(block_bytes // (6 * max(total, 1)), block_bytes // (4 * queries.shape[1])))
    for block in _blocks(database, rows, at_once):
        stop = start + block.shape[0]
        # |q - d|^2 = |q|^2 - (2 q.d - |d|^2): the larger the score, the nearer; |q| does not change a query's order.
        # A norm needs no second block of squares.
        squares = torch.linalg.vector_norm(block, dim=1).square_()
        score = torch.addmm(-squares.unsqueeze(0), queries, block.T, alpha=2.0)  # [T,b]
        columns = torch.arange(start, stop, device=device).expand(total, -1)
        best, best_column = _merge(best, best_column, score, columns, near.mask(total, start, stop))
        hard, hard_column = _merge(hard, hard_column, score, columns, far.mask(total, start, stop))
        start = stop
    if start != rows.size:
        raise RuntimeError(f"{rows.size} database rows were to be described, {start} came")
    return Ranked(_to_rows(best_column, rows)[:, 0], _to_rows(hard_column, rows))


def _merge(kept: Tensor, kept_column: Tensor, score: Tensor, columns: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
    """Merge the best so far [T,K] with the masked scores of a block [T,b]."""
    width = kept.shape[1]
    value, at = score.masked_fill(~mask, -torch.inf).topk(min(width, score.shape[1]), dim=1)
    column = columns.gather(1, at).masked_fill(value == -torch.inf, -1)
    merged, at = torch.cat([kept, value], dim=1).topk(width, dim=1)
    return merged, torch.cat([kept_column, column], dim=1).gather(1, at)


def _to_rows(column: Tensor, rows: Rows) -> Rows:
    at = column.cpu().numpy()
    return np.where(at < 0, -1, rows[np.maximum(at, 0)]) if rows.size else at


def _blocks(database: Described, rows: Rows, size: int) -> Iterator[Tensor]:
    """Join batches to blocks of at least `size` rows (the last may be smaller), checking that they come in order."""
    parts: list[Tensor] = []
    seen = held = 0
    for batch_rows, descriptors in database:
        if not np.array_equal(batch_rows.numpy(), rows[seen : seen + len(batch_rows)]):
            raise RuntimeError("database rows were described in another order than asked for")
        parts.append(descriptors.float())
        seen += len(batch_rows)
        held += len(batch_rows)
        if held >= size:
            yield torch.cat(parts)
            parts, held = [], 0
    if parts:
        yield torch.cat(parts)
