"""The running k best of every query, kept in float64 so that the result does not depend on how it was searched."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

_RESCORE_BYTES = (2**20, 2**26)  # float64 values of one round of exact distances: in a CPU's cache; on a GPU
UNIT = 2.0**-24  # unit roundoff of float32
UNIT64 = 2.0**-53


@dataclass(frozen=True)
class QueryBlock:
    """Queries as the search backends want them.

    Attributes:
        vectors: float32 [Q,D+1]; the last column is one, to meet a tile's last column in a single matrix product.
        norms: float64 [Q], Euclidean.
    """

    vectors: Tensor
    norms: Tensor

    @staticmethod
    def of(queries: Tensor) -> QueryBlock:
        """Make a block of stored descriptors [Q,D] (float16 or float32, any device)."""
        vectors = torch.ones((len(queries), queries.shape[1] + 1), dtype=torch.float32, device=queries.device)
        vectors[:, :-1] = queries
        return QueryBlock(vectors, torch.linalg.vector_norm(vectors[:, :-1], dim=1, dtype=torch.float64))

    def __len__(self) -> int:
        return len(self.vectors)

    def subset(self, rows: Tensor) -> QueryBlock:
        return QueryBlock(self.vectors[rows], self.norms[rows])


def score_error(dim: int, norms: Tensor, radius: float, unit: float = UNIT) -> Tensor:
    """Bound the rounding error of a score q.d - |d|^2 / 2 computed in float32, or with another unit roundoff.

    Any order of summing D+1 products errs by at most about (D+1) units of the sum of their magnitudes (Higham 2002,
    section 3.1); the slack covers the half squared norm's own rounding, and the threshold that
    the score is compared with is covered too.

    Args:
        dim: D.
        norms: float64 [Q], of the queries.
        radius: the largest norm of a row.
        unit: the unit roundoff.

    Returns:
        float64 [Q].
    """
    in_thresholds = UNIT64 * norms.square()  # they are made of the query's squared norm, in float64
    return (dim + 17) * (unit * (norms * radius + radius**2) + in_thresholds) + 1e-30


@dataclass(frozen=True)
class Tile:
    """Some database rows as the search backends want them.

    Attributes:
        vectors: float32 [rows, D+1]; the last column is minus half the squared norm, so that the product with a
            query's vector is the larger the nearer the row: (|q|^2 - |q - d|^2) / 2.
        radius: the largest norm.
    """

    vectors: Tensor
    radius: float

    @property
    def rows(self) -> int:
        return len(self.vectors)


class RunningTopK:
    """The k nearest rows of each query among those offered so far; equal distances in order of index.

    Attributes:
        squared: float64 [Q,k] squared Euclidean distances, ascending, infinite where fewer than k rows were offered.
        indices: int64 [Q,k] database rows.
    """

    def __init__(self, queries: QueryBlock, k: int) -> None:
        device = queries.vectors.device
        self._queries = queries
        self.k = k
        self.squared = torch.full((len(queries), k), torch.inf, dtype=torch.float64, device=device)
        self.indices = torch.full((len(queries), k), torch.iinfo(torch.int64).max, dtype=torch.int64, device=device)

    def offer(self, query_rows: Tensor, tile: Tile, tile_rows: Tensor, first_row: int) -> None:
        """Score the pairs (query_rows[i], tile_rows[i]), int64 [M], exactly and keep the best.

        Over the whole search, each query's database rows must be offered in ascending order.

        Args:
            first_row: the database row of the tile's row 0.
        """
        if len(query_rows) == 0:
            return
        dim = tile.vectors.shape[1] - 1
        squared = torch.empty(len(query_rows), dtype=torch.float64, device=query_rows.device)
        step = max(1, _RESCORE_BYTES[query_rows.device.type == "cuda"] // (8 * dim))
        for start in range(0, len(query_rows), step):
            part = slice(start, start + step)
            queries = self._queries.vectors[query_rows[part], :dim].double()
            squared[part] = _row_sums((queries - tile.vectors[tile_rows[part], :dim].double()).square_())
        self._merge(query_rows, squared, tile_rows + first_row)

    def _merge(self, query_rows: Tensor, squared: Tensor, indices: Tensor) -> None:
        touched, query_rows = torch.unique(query_rows, return_inverse=True)
        kept = torch.arange(len(touched), device=touched.device).repeat_interleave(self.k)
        query_rows = torch.cat([kept, query_rows])
        squared = torch.cat([self.squared[touched].reshape(-1), squared])
        indices = torch.cat([self.indices[touched].reshape(-1), indices])
        # Stable sorts keep equal distances in the order of their index: kept ones first, new ones as they were offered.
        order = squared.argsort(stable=True)
        order = order[query_rows[order].argsort(stable=True)]
        counts = torch.bincount(query_rows, minlength=len(touched))
        first = counts.cumsum(0) - counts
        # Each touched query brought its k kept ones, so the k best of its group are there.
        best = order[first[:, None] + torch.arange(self.k, device=first.device)]
        self.squared[touched] = squared[best]
        self.indices[touched] = indices[best]


def _row_sums(values: Tensor) -> Tensor:
    """Sum each row of [M,D] in a fixed tree, so that equal rows have equal sums whatever M and the device are."""
    while values.shape[1] > 1:
        half = values.shape[1] // 2
        folded = values[:, :half] + values[:, half : 2 * half]
        if values.shape[1] % 2:
            folded[:, 0] += values[:, -1]
        values = folded
    return values[:, 0]
