"""Candidate pairs where float32 cannot tell rows apart: a collapsed network, a static camera, repeated images.

There a threshold lets most rows through, and scoring them one by one would take hours. In float64, seen from one of
them, the rows separate, and of rows that are equal to the last bit only the first k can be among the k best.
"""

from __future__ import annotations

import torch
from torch import Tensor

from vgbench.retrieval.topk import UNIT64, QueryBlock, Tile, score_error


def crowded_pairs(queries: QueryBlock, tile: Tile, kth_squared: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """Return (query rows, tile rows), int64 [M] each, that hold every pair that may enter the k best.

    A query's rows come in ascending order; arguments as for `search_torch.TorchFinder`.
    """
    distinct, which = torch.unique(tile.vectors[:, :-1], dim=0, return_inverse=True)
    distinct = distinct.double()
    # Distances are the same from any origin, and rounding is least from one among the crowd.
    origin = distinct[0].clone()
    distinct -= origin
    vectors = queries.vectors[:, :-1].double() - origin
    squared_norms = vectors.square().sum(1)
    half_squares = distinct.square().sum(1) / 2
    scores = (distinct @ vectors.T).sub_(half_squares[:, None])
    error = score_error(distinct.shape[1], squared_norms.sqrt(), float((2 * half_squares.max()).sqrt()), UNIT64)
    threshold = (squared_norms - kth_squared) / 2 - error
    if len(distinct) >= k:
        threshold = torch.maximum(threshold, scores.T.topk(k).values[:, -1] - 2 * error)
    # The place of each row among its equals, in ascending order of row.
    order = which.argsort(stable=True)
    counts = torch.bincount(which, minlength=len(distinct))
    first = counts.cumsum(0) - counts
    copy = torch.empty_like(which)
    copy[order] = torch.arange(len(which), device=which.device) - first[which[order]]
    rows = (copy < k).nonzero()[:, 0]
    near = (scores >= threshold)[which[rows]]
    row, query = near.nonzero(as_tuple=True)
    return query, rows[row]
