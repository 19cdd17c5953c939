"""Candidate pairs by faiss (Douze et al., 2024), the only module that imports it.

faiss gives the nearest rows of each tile in float32. Where rounding could have hidden a better row behind its cut, the
query's tile is searched again by `search_torch`, so the result is as exact.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from vgbench.errors import UserError
from vgbench.retrieval import search_torch
from vgbench.retrieval.topk import UNIT, QueryBlock, Tile

try:
    import faiss
except ImportError as missing:
    raise UserError(
        f"--search_backend faiss: faiss cannot be imported ({missing}). Expected the package faiss-cpu or faiss-gpu; "
        "install one, or use --search_backend torch, which gives the same predictions"
    ) from missing

_SPARE = 4  # neighbours asked for beyond k, so that rounding at the cut seldom matters


def find_pairs(queries: QueryBlock, tile: Tile, kth_squared: Tensor, k: int) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield (query rows, tile rows), int64 [M] each, that hold every pair that may enter the k best.

    Args:
        kth_squared: float64 [Q], each query's k-th smallest squared distance so far, infinite before there are k.
        k: how many are wanted.
    """
    dim = tile.vectors.shape[1] - 1
    wanted = min(k + _SPARE, tile.rows)
    vectors = tile.vectors[: tile.rows, :dim].contiguous().cpu().numpy()
    squared, rows = faiss.knn(queries.vectors[:, :dim].contiguous().cpu().numpy(), vectors, wanted)
    found = torch.from_numpy(squared).to(queries.norms)
    error = (dim + 16) * UNIT * (queries.norms + tile.radius) ** 2 + 1e-30
    limit = kth_squared + error
    if wanted >= k:
        limit = torch.minimum(limit, found[:, k - 1] + 2 * error)
    # Sure: even the last neighbour that faiss returned is too far, or it returned all.
    sure = (found[:, -1] > limit) | (wanted == tile.rows)
    query, column = ((found <= limit[:, None]) & sure[:, None]).nonzero(as_tuple=True)
    yield query, torch.from_numpy(rows).to(query.device)[query, column]
    unsure = (~sure).nonzero()[:, 0]
    if len(unsure):
        for query, row in search_torch.find_pairs(queries.subset(unsure), tile, kth_squared[unsure], k):
            yield unsure[query], row
