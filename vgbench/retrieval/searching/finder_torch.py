"""Candidate pairs by one float32 matrix product a tile, on any device.

Scores are only ever compared with a threshold that no k-th best can be below, lowered by a bound on their rounding
error; what passes is scored exactly by `topk`. The comparison runs on the maxima of small groups of rows, so a tile
costs its matrix product and one pass over the scores, with no sorting and no top-k of the whole tile.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from vgbench.retrieval.searching.topk import UNIT64, QueryBlock, Tile, score_error

GROUP = 32  # database rows that share one maximum
_PAIRS_AT_ONCE = 2**20


class TorchFinder:
    """Finds the pairs of one block of queries.

    Args:
        queries: Q of them.
        k: how many neighbours are wanted.
        tile_rows: the most rows that a tile has.
    """

    def __init__(self, queries: QueryBlock, k: int, tile_rows: int) -> None:
        self.queries = queries
        self.k = k
        # One buffer for all tiles: fresh memory would cost more than the pass over it.
        self._scores = torch.empty((tile_rows + GROUP, len(queries)), device=queries.vectors.device)

    def pairs(self, tile: Tile, kth_squared: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield (query rows, tile rows), int64 [M] each, that hold every pair that may enter the k best.

        A query's rows come in ascending order. Until the next call the pairs are lazily read off one buffer.

        Args:
            kth_squared: float64 [Q], each query's k-th smallest squared distance so far, infinite before there are k.
        """
        queries, k = self.queries, self.k
        group = max(1, min(GROUP, tile.rows // (4 * k)))
        groups = -(-tile.rows // group)
        torch.mm(tile.vectors, queries.vectors.T, out=self._scores[: tile.rows])
        self._scores[tile.rows : groups * group] = -torch.inf
        scores = self._scores[: groups * group].view(groups, group, len(queries))
        maxima = scores.amax(1)
        error = score_error(tile.vectors.shape[1] - 1, queries.norms, tile.radius)
        # Scores are (|q|^2 - distance^2) / 2.
        threshold = (queries.norms.square() - kth_squared) / 2 - error
        passing = _at_least(maxima, threshold)
        if groups >= k and int(passing.sum()) > 2 * k * len(queries):
            # k groups hold a row this good, so the k-th best row is no worse.
            threshold = torch.maximum(threshold, maxima.T.topk(k).values[:, -1] - 2 * error)
            passing = _at_least(maxima, threshold)
            crowded = passing.sum(0) > 2 * k + groups // 16
            if crowded.any():
                passing &= ~crowded
                among = crowded.nonzero()[:, 0]
                query, row = crowded_pairs(queries.subset(among), tile, kth_squared[among], k)
                yield among[query], row
        for part in torch.split(passing.nonzero(), max(1, _PAIRS_AT_ONCE // group)):
            which_group, query = part[:, 0], part[:, 1]
            good = scores[which_group, :, query] >= threshold[query, None]
            pair, member = good.nonzero(as_tuple=True)
            row = which_group[pair] * group + member
            inside = row < tile.rows
            yield query[pair[inside]], row[inside]


def _at_least(maxima: Tensor, threshold: Tensor) -> Tensor:
    """Compare float32 [G,Q] with float64 [Q] without a float64 copy of the larger one."""
    # Rounded down, the threshold lets through what it should and at most a unit in the last place more.
    return maxima >= torch.nextafter(threshold.float(), torch.full_like(threshold, -torch.inf, dtype=torch.float32))


def crowded_pairs(queries: QueryBlock, tile: Tile, kth_squared: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """Return candidate pairs where float32 cannot tell rows apart: a collapsed network, a static camera, equal images.

    There a threshold lets most rows through, and scoring them one by one would take hours. In float64, seen from one of
    them, the rows separate, and of rows that are equal to the last bit only the first k can be among the k best.
    Returns (query rows, tile rows), int64 [M] each, that hold every pair that may enter the k best; a query's rows come
    in ascending order; arguments as for `TorchFinder`.
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
