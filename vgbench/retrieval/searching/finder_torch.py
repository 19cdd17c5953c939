"""Candidate pairs by float32 matrix products, on any device.

Scores are only ever compared with a threshold that no k-th best can be below, lowered by a bound on their rounding
error; `candidates` decides among what passes. The comparison runs on the maxima of small groups of rows, so a tile
costs its matrix product and one pass over the scores, with no sorting and no top-k of the whole tile.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from vgbench.retrieval.searching.distinct import distinct_rows

GROUP = 32  # database rows that share one maximum
_PAIRS_AT_ONCE = 2**20
_DENSE = 6  # where more than this part of the groups passes, comparing all scores is faster than picking
_CROWD_BYTES = 2**23  # of the float64 queries that look at a crowd at a time
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

    def error(self, tile: Tile) -> Tensor:
        """Return bounds float64 [Q] of the scores' rounding errors."""
        return score_error(tile.dim, self.queries.norms, tile.radius)

    def pairs(self, tile: Tile, floor: Tensor, kth_squared: Tensor) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
        """Yield (query rows int64, tile rows int64, scores float32), [M] each: every pair that may enter the k best.

        Until the next call the pairs are lazily read off one buffer.

        Args:
            floor: float64 [Q], scores that the k-th best reach, as `Candidates.floor`.
            kth_squared: float64 [Q], as `Candidates.kth_squared`.
        """
        queries, k = self.queries, self.k
        group = max(1, min(GROUP, tile.rows // (4 * k)))
        groups = -(-tile.rows // group)
        score_into(self._scores[: tile.rows], tile, queries)
        self._scores[tile.rows : groups * group] = -torch.inf
        scores = self._scores[: groups * group].view(groups, group, len(queries))
        maxima = scores.amax(1) if group > 1 else scores[:, 0]
        error = self.error(tile)
        threshold = floor - error
        passing = at_least(maxima, threshold)
        crowded = None
        if groups >= k and int(passing.sum()) > 2 * k * len(queries):
            # k groups hold a row this good, so the k-th best row is no worse.
            threshold = torch.maximum(threshold, maxima.T.topk(k).values[:, -1] - 2 * error)
            passing = at_least(maxima, threshold)
            crowded = passing.sum(0) > 2 * k + groups // 16
            if bool(crowded.any()):
                passing &= ~crowded
                among = crowded.nonzero()[:, 0]
                yield from self._of_crowds(tile, among, kth_squared)
        if int(passing.sum()) * _DENSE > passing.numel():
            of_all = threshold if crowded is None else threshold.masked_fill(crowded, torch.inf)
            row, query = at_least(self._scores[: tile.rows], of_all).nonzero(as_tuple=True)
            yield query, row, self._scores[row, query]
            return
        for part in torch.split(passing.nonzero(), max(1, _PAIRS_AT_ONCE // group)):
            which_group, query = part[:, 0], part[:, 1]
            members = scores[which_group, :, query]
            pair, member = (members >= threshold[query, None]).nonzero(as_tuple=True)
            yield query[pair], which_group[pair] * group + member, members[pair, member]

    def _of_crowds(self, tile: Tile, among: Tensor, kth_squared: Tensor) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
        crowd = Crowd(tile, self.k)
        for part in torch.split(among, max(1, _CROWD_BYTES // (8 * max(tile.rows, min(tile.dim, PIECE))))):
            query, row = crowd.pairs(self.queries.vectors, part, kth_squared[part])
            yield part[query], row, self._scores[row, part[query]]


def at_least(maxima: Tensor, threshold: Tensor) -> Tensor:
    """Compare float32 [G,Q] with float64 [Q] without a float64 copy of the larger one."""
    # Rounded down, the threshold lets through what it should and at most a unit in the last place more.
    return maxima >= torch.nextafter(threshold.float(), torch.full_like(threshold, -torch.inf, dtype=torch.float32))


class Crowd:
    """A tile whose rows float32 cannot tell apart: a collapsed network, a static camera, equal images.

    There a threshold lets most rows through, and scoring them one by one would take hours. In float64, seen from one of
    them, the rows separate, and of rows that are equal to the last bit only the first k can be among the k best.
    """

    def __init__(self, tile: Tile, k: int) -> None:
        self.k = k
        first, which = distinct_rows(tile.vectors)
        self._vectors = tile.vectors[first]
        if len(first) == tile.rows:  # as a rule: no copy is held
            self._vectors, which = tile.vectors, torch.arange(tile.rows, device=which.device)
        self._half_squares = torch.zeros(len(first), dtype=torch.float64, device=which.device)
        for piece in pieces(tile.dim):
            self._half_squares += torch.linalg.vector_norm(self._seen(self._vectors, piece), dim=1).square_().div_(2)
        # The place of each row among its equals, in ascending order of row.
        order = which.argsort(stable=True)
        counts = torch.bincount(which, minlength=len(first))
        begin = counts.cumsum(0) - counts
        copy = torch.empty_like(which)
        copy[order] = torch.arange(len(which), device=which.device) - begin[which[order]]
        self._rows = (copy < k).nonzero()[:, 0]
        self._which = which[self._rows]

    def pairs(self, queries: Tensor, among: Tensor, kth_squared: Tensor) -> tuple[Tensor, Tensor]:
        """Return pairs int64 [M] of places in `among` and of tile rows: every pair that may enter the k best.

        Args:
            queries: float32 [Q,D].
            among: int64 [q], which of them are asked.
            kth_squared: float64 [q], theirs.
        """
        squared_norms = torch.zeros(len(among), dtype=torch.float64, device=self._vectors.device)
        scores = -self._half_squares[:, None].repeat(1, len(among))
        dim = self._vectors.shape[1]
        for piece in pieces(dim):
            vectors = self._seen(queries, piece, among)
            squared_norms += torch.linalg.vector_norm(vectors, dim=1).square_()
            scores.addmm_(self._seen(self._vectors, piece), vectors.T)
        radius = float((2 * self._half_squares.max()).sqrt())
        error = plain_score_error(dim, squared_norms.sqrt(), radius, UNIT64)
        threshold = (squared_norms - kth_squared) / 2 - error
        if len(scores) >= self.k:
            threshold = torch.maximum(threshold, scores.T.topk(self.k).values[:, -1] - 2 * error)
        row, query = (scores >= threshold)[self._which].nonzero(as_tuple=True)
        return query, self._rows[row]

    def _seen(self, vectors: Tensor, piece: slice, rows: Tensor | slice = slice(None)) -> Tensor:
        """Return some dimensions of some vectors in float64, from one of the crowd: any origin keeps distances.

        Rounding is least from there. All dimensions at a time would be twice a tile.
        """
        return vectors[:, piece][rows].double().sub_(self._vectors[0, piece])
