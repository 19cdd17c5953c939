"""Candidate pairs by faiss (Douze et al., 2024), on the CPU or on the GPU that holds the queries.

faiss gives the nearest rows of each tile in float32. Where rounding could have hidden a better row behind its cut, the
query's tile is searched again by `finder_torch`, so the result is as exact.
"""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from vgbench.retrieval.searching.faiss_library import load_faiss
from vgbench.retrieval.searching.finder_torch import UNIT, QueryBlock, Tile, TorchFinder

faiss = load_faiss("--search_backend faiss")
_GPU_NEIGHBOURS = 2048  # the most that faiss finds on a GPU
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
        self._vectors = queries.vectors
        self._gpu = _gpu_resources() if self._vectors.is_cuda else None

    def error(self, tile: Tile) -> Tensor:
        """Return bounds float64 [Q] of the scores' rounding errors."""
        # Half of that of a squared distance, which faiss makes of all three of its parts in float32.
        return (tile.dim + 17) * UNIT * (self.queries.norms + tile.radius) ** 2 + 1e-30

    def pairs(self, tile: Tile, floor: Tensor, kth_squared: Tensor) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
        """Yield (query rows int64, tile rows int64, scores float32), [M] each: every pair that may enter the k best.

        Args:
            floor: float64 [Q], scores that the k-th best reach, as `Candidates.floor`.
            kth_squared: float64 [Q], as `Candidates.kth_squared`.
        """
        wanted = min(self.k + _SPARE, tile.rows)
        squared, rows = self._nearest(tile.vectors, wanted)
        scores = (self.queries.norms.square()[:, None] - squared.to(self.queries.norms)) / 2
        error = self.error(tile)
        limit = floor - error
        if wanted >= self.k:
            limit = torch.maximum(limit, scores[:, self.k - 1] - 2 * error)
        # Sure: even the last neighbour that faiss returned is too far, or it returned all.
        sure = (scores[:, -1] < limit) | (wanted == tile.rows)
        query, column = ((scores >= limit[:, None]) & sure[:, None]).nonzero(as_tuple=True)
        yield query, rows.to(query.device)[query, column], scores[query, column].float()
        unsure = (~sure).nonzero()[:, 0]
        if len(unsure):
            again = TorchFinder(self.queries.subset(unsure), self.k, tile.rows)
            for query, row, score in again.pairs(tile, floor[unsure], kth_squared[unsure]):
                yield unsure[query], row, score

    def _nearest(self, rows: Tensor, wanted: int) -> tuple[Tensor, Tensor]:
        """Return squared distances float32 and rows int64, both [Q,wanted], nearest first."""
        if self._gpu is not None and wanted <= _GPU_NEIGHBOURS:
            squared, found = faiss.knn_gpu(self._gpu, self._vectors, rows, wanted)
            return squared, found
        near, places = faiss.knn(self._vectors.cpu().numpy(), rows.cpu().numpy(), wanted)
        return torch.from_numpy(near), torch.from_numpy(places)


def _gpu_resources() -> Any:
    """faiss's scratch memory on the current GPU; None where faiss was built without GPUs, which then uses the CPU."""
    if not hasattr(faiss, "StandardGpuResources") or faiss.get_num_gpus() == 0:
        return None
    importlib.import_module("faiss.contrib.torch_utils")  # teaches knn_gpu to take torch's tensors
    return faiss.StandardGpuResources()
