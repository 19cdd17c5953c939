"""Exact search of a database so small that it fits one read: one product, one comparison, exact distances.

The same predictions as the search that streams, without its sorting, which takes longer than a small product.
"""

from __future__ import annotations

import torch
from torch import Tensor

from vgbench.retrieval.searching.candidates import CROWDED, distances_to
from vgbench.retrieval.searching.finder_torch import QueryBlock, Tile, at_least, score_error, score_into


def fits(rows: int, queries: QueryBlock, block_bytes: int) -> bool:
    """Say whether rows of a database, and their scores, take one read each at most; on a CPU."""
    return not queries.vectors.is_cuda and 4 * rows * max(queries.vectors.shape[1], len(queries)) <= block_bytes


def nearest_of_few(queries: QueryBlock, stored: Tensor, tile: Tile, k: int) -> tuple[Tensor, Tensor] | None:
    """Return squared distances float64 and rows int64, both [Q,k]: nearest first, equal ones in order of row.

    Args:
        stored: the rows as they are in the file; `tile` has them in float32.
        k: at most as many as there are rows.

    Returns:
        None where too many rows are nearly as near as the k-th, which the search that streams knows to deal with.
    """
    # Of groups of rows, k hold one as good as the k-th group's best: so the k-th best row is no worse.
    group = max(1, tile.rows // (4 * k))
    scores = torch.full((-(-tile.rows // group) * group, len(queries)), -torch.inf)
    score_into(scores[: tile.rows], tile, queries)
    kth = scores.view(-1, group, len(queries)).amax(1).T.topk(k).values[:, -1]
    passing = at_least(scores, kth - 2 * score_error(tile.dim, queries.norms, tile.radius))
    query, row = passing[: tile.rows].T.contiguous().nonzero(as_tuple=True)
    if len(query) > CROWDED * k * len(queries):
        return None
    counts = torch.bincount(query)
    column = torch.arange(len(query)) - (counts.cumsum(0) - counts)[query]
    squared = torch.full((len(queries), int(counts.max())), torch.inf, dtype=torch.float64)
    rows = torch.zeros_like(squared, dtype=torch.int64)
    squared[query, column] = distances_to(queries, query, stored, row)
    rows[query, column] = row  # ascending, which a stable sort keeps among equals
    nearest, order = squared.sort(dim=1, stable=True)
    return nearest[:, :k], rows.gather(1, order[:, :k])
