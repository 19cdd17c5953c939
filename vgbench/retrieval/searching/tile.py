"""What one matrix product of a search takes: queries, and a tile of database rows, with bounds on its rounding."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

UNIT = 2.0**-24  # unit roundoff of float32
UNIT64 = 2.0**-53
# Products of long descriptors are summed up in pieces of this many dimensions: rounding grows with the longest sum, so
# that 16,384 dimensions are told apart as well as 1,024.
PIECE = 1024


@dataclass(frozen=True)
class QueryBlock:
    """Queries as the search backends want them.

    Attributes:
        vectors: float32 [Q,D].
        norms: float64 [Q], Euclidean.
    """

    vectors: Tensor
    norms: Tensor

    @staticmethod
    def of(queries: Tensor) -> QueryBlock:
        """Make a block of stored descriptors [Q,D] (float16 or float32, any device)."""
        vectors = queries.float()
        return QueryBlock(vectors, norms(vectors))

    def __len__(self) -> int:
        return len(self.vectors)

    def subset(self, rows: Tensor) -> QueryBlock:
        return QueryBlock(self.vectors[rows], self.norms[rows])


@dataclass(frozen=True)
class Tile:
    """Some database rows as the search backends want them.

    Attributes:
        vectors: float32 [rows,D].
        half_squares: float64 [rows], half of each row's squared norm.
        radius: the largest norm.
    """

    vectors: Tensor
    half_squares: Tensor
    radius: float

    @property
    def rows(self) -> int:
        return len(self.vectors)

    @property
    def dim(self) -> int:
        return self.vectors.shape[1]


def norms(vectors: Tensor) -> Tensor:
    """Return the Euclidean norms float64 [N] of float32 [N,D], summed up in pieces."""
    squares = torch.zeros(len(vectors), dtype=torch.float64, device=vectors.device)
    for piece in pieces(vectors.shape[1]):
        squares += torch.linalg.vector_norm(vectors[:, piece], dim=1).double().square_()
    return squares.sqrt_()


def pieces(dim: int) -> list[slice]:
    """Return the dimensions that are summed up together."""
    return [slice(start, min(start + PIECE, dim)) for start in range(0, dim, PIECE)]


def score_into(out: Tensor, tile: Tile, queries: QueryBlock) -> Tensor:
    """Fill float32 `out` [rows,Q] with (|q|^2 - |q - d|^2) / 2 = q.d - |d|^2 / 2: the larger the nearer."""
    total = -tile.half_squares.to(out.dtype)[:, None]
    for piece in pieces(tile.dim):
        total = torch.addmm(total, tile.vectors[:, piece], queries.vectors[:, piece].T, out=out)
    return out


def score_error(dim: int, norms: Tensor, radius: float) -> Tensor:
    """Bound the rounding error of a score that `score_into` computes.

    Any order of summing n products errs by at most about n units of the sum of their magnitudes (Higham 2002, section
    3.1), here n products a piece and then one sum for each; the slack covers the half squared norm's own rounding, and
    the threshold that the score is compared with is covered too.

    Args:
        dim: D.
        norms: float64 [Q], of the queries.
        radius: the largest norm of a row.

    Returns:
        float64 [Q].
    """
    return _error(min(dim, PIECE) + len(pieces(dim)), norms, radius, UNIT)


def plain_score_error(dim: int, norms: Tensor, radius: float, unit: float) -> Tensor:
    """Bound the same [Q] of a score that was summed up in any order, with a unit roundoff."""
    return _error(dim, norms, radius, unit)


def _error(terms: int, norms: Tensor, radius: float, unit: float) -> Tensor:
    in_thresholds = UNIT64 * norms.square()  # they are made of the query's squared norm, in float64
    return (terms + 17) * (unit * (norms * radius + radius**2) + in_thresholds) + 1e-30
