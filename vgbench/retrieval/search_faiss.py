"""Candidate pairs by faiss (Douze et al., 2024) on the CPU; the only module that imports it.

faiss gives the nearest rows of each tile in float32. Where rounding could have hidden a better row behind its cut, the
query's tile is searched again by `search_torch`, so the result is as exact.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from vgbench.errors import UserError
from vgbench.retrieval.search_torch import TorchFinder
from vgbench.retrieval.topk import UNIT, QueryBlock, Tile

try:
    import faiss
except ImportError as missing:
    raise UserError(
        f"--search_backend faiss: faiss cannot be imported ({missing}). Expected the package faiss-cpu or faiss-gpu; "
        "install one, or use --search_backend torch, which gives the same predictions"
    ) from missing

_SPARE = 4  # neighbours asked for beyond k, so that rounding at the cut seldom matters


class FaissFinder:
    """Finds the pairs of one block of queries.

    Args:
        queries: Q of them.
        k: how many neighbours are wanted.
        tile_rows: the most rows that a tile has.
    """

    def __init__(self, queries: QueryBlock, k: int, tile_rows: int) -> None:
        self.queries = queries
        self.k = k
        self._vectors = queries.vectors[:, :-1].contiguous().cpu().numpy()

    def pairs(self, tile: Tile, kth_squared: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield (query rows, tile rows), int64 [M] each, that hold every pair that may enter the k best.

        A query's rows come in ascending order.

        Args:
            kth_squared: float64 [Q], each query's k-th smallest squared distance so far, infinite before there are k.
        """
        norms = self.queries.norms
        wanted = min(self.k + _SPARE, tile.rows)
        squared, rows = faiss.knn(self._vectors, tile.vectors[:, :-1].contiguous().cpu().numpy(), wanted)
        found = torch.from_numpy(squared).to(norms)
        error = (tile.vectors.shape[1] + 15) * UNIT * (norms + tile.radius) ** 2 + 1e-30
        limit = kth_squared + error
        if wanted >= self.k:
            limit = torch.minimum(limit, found[:, self.k - 1] + 2 * error)
        # Sure: even the last neighbour that faiss returned is too far, or it returned all.
        sure = (found[:, -1] > limit) | (wanted == tile.rows)
        ascending, order = torch.from_numpy(rows).to(norms.device).sort(dim=1)
        near = (found <= limit[:, None]).gather(1, order) & sure[:, None]
        query, column = near.nonzero(as_tuple=True)
        yield query, ascending[query, column]
        unsure = (~sure).nonzero()[:, 0]
        if len(unsure):
            again = TorchFinder(self.queries.subset(unsure), self.k, tile.rows)
            for query, row in again.pairs(tile, kth_squared[unsure]):
                yield unsure[query], row
