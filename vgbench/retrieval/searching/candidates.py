"""The rows that may still be among a query's k nearest, by float32 scores; exact distances for those that stay.

A distance in float64 is a function of its two descriptors and of nothing else, so the result of a search does not
depend on how the pairs were found, in what order, by how many processes or threads.
"""

from __future__ import annotations

import warnings

import torch
from torch import Tensor

from vgbench.retrieval.extraction.store import Descriptors
from vgbench.retrieval.searching.distinct import distinct_rows
from vgbench.retrieval.searching.finder_torch import UNIT64, QueryBlock, Tile, at_least, score_error, score_into

_ROUND_BYTES = (2**21, 2**26)  # float64 values of one round of differences: in a CPU's cache; on a GPU
_READS = 4
# |q|^2 + |d|^2 - 2 q.d loses digits where q and d are close. It is used while at most this many of its roundoffs could
# be in doubt a unit, which leaves 6 digits in the worst case and 9 or more as a rule (float16 values: all of them).
_SAFE = 2.0**20
CROWDED = 4  # times k candidates of one query are too many to be left undecided


class Candidates:
    """Keeps what the finders offer while a database streams past, and decides at the end.

    A score is (|q|^2 - distance^2) / 2, known within a bound; whatever cannot be excluded by the bounds is kept. Where
    that becomes too much (equal images, a collapsed network) the query is settled: its k best by exact distance stay.

    Args:
        queries: Q of them.
        k: how many neighbours are wanted.
        database: where exact distances come from; it has at least k rows that are offered.
        work_bytes: as for `squared_distances`.

    Attributes:
        floor: float64 [Q], a score that each query's k-th best is known to reach, -inf before there are k.
        kth_squared: float64 [Q], the k-th smallest squared distance of the settled queries, infinite for the others.
    """

    def __init__(self, queries: QueryBlock, k: int, database: Descriptors, work_bytes: int) -> None:
        device = queries.vectors.device
        self.k = k
        self.floor = torch.full((len(queries),), -torch.inf, dtype=torch.float64, device=device)
        self.kth_squared = torch.full_like(self.floor, torch.inf)
        self._queries, self._database, self._work_bytes = queries, database, work_bytes
        self._error = torch.zeros_like(self.floor)
        nothing = torch.empty(0, dtype=torch.int64, device=device)
        self._query, self._row, self._score = nothing, nothing, torch.empty(0, device=device)
        self._new: list[tuple[Tensor, Tensor, Tensor]] = []
        self._new_count = 0

    def offer(self, query: Tensor, row: Tensor, score: Tensor, error: Tensor) -> None:
        """Take pairs of a query int64 [M] and a database row int64 [M] with their float32 scores [M].

        Args:
            error: float64 [Q], bounds of each query's scores.
        """
        if len(query) == 0:
            return
        self._error = torch.maximum(self._error, error)
        self._new.append((query, row, score))
        self._new_count += len(query)
        if self._new_count > self.k * len(self._queries) // 2:
            self._sift()

    def best(self) -> tuple[Tensor, Tensor]:
        """Return squared distances float64 and rows int64, both [Q,k]: nearest first, equal ones in order of row."""
        self._sift()
        best, squared = self._nearest(slice(None))
        return squared, self._row[best]

    def _sift(self) -> None:
        """Order the candidates by query and score, raise the floors, and drop what lies below them."""
        if not self._new:
            return
        parts = [(self._query, self._row, self._score), *self._new]
        query, row, score = (torch.cat(part) for part in zip(*parts, strict=True))
        self._new, self._new_count = [], 0
        order = _by_query_and_score(query, score)
        query, row, score = query[order], row[order], score[order]
        counts = torch.bincount(query, minlength=len(self._queries))
        starts = counts.cumsum(0) - counts
        full = (counts >= self.k).nonzero()[:, 0]
        reached = score[starts[full] + self.k - 1].double() - self._error[full]
        self.floor[full] = torch.maximum(self.floor[full], reached)
        kept = score >= (self.floor - self._error)[query]
        self._query, self._row, self._score = query[kept], row[kept], score[kept]
        crowded = torch.bincount(self._query, minlength=len(self._queries)) > CROWDED * self.k
        if bool(crowded.any()):
            self._settle(crowded)

    def _settle(self, crowded: Tensor) -> None:
        """Keep the k best of some queries (bool [Q]) by their exact distances."""
        theirs = crowded[self._query].nonzero()[:, 0]
        among = crowded.nonzero()[:, 0]
        best, squared = self._nearest(theirs)
        self.kth_squared[among] = squared[:, -1]
        exact_floor = (self._queries.norms[among].square() - self.kth_squared[among]) / 2
        self.floor[among] = torch.maximum(self.floor[among], exact_floor)
        stay = ~crowded[self._query]
        stay[theirs[best.reshape(-1)]] = True
        self._query, self._row, self._score = self._query[stay], self._row[stay], self._score[stay]

    def _nearest(self, which: Tensor | slice) -> tuple[Tensor, Tensor]:
        """Return, of some of the candidates, each query's k best by exact distance, then row.

        Args:
            which: all candidates of some queries, or all candidates.

        Returns:
            int64 [q,k], their places among those candidates, and float64 [q,k], squared distances.
        """
        query, row = self._query[which], self._row[which]
        squared = squared_distances(self._queries, query, self._database, row, self._work_bytes)
        _, place = torch.unique_consecutive(query, return_inverse=True)
        counts = torch.bincount(place)
        column = torch.arange(len(query), device=query.device) - (counts.cumsum(0) - counts)[place]
        shape = (len(counts), int(counts.max()))
        # One row per query, in which two stable sorts find the order; what fills it up comes last.
        by_row = torch.full(shape, torch.iinfo(torch.int64).max, device=query.device)
        by_row[place, column] = row
        distance = torch.full(shape, torch.inf, dtype=torch.float64, device=query.device)
        distance[place, column] = squared
        order = by_row.argsort(dim=1)
        order = order.gather(1, distance.gather(1, order).argsort(dim=1, stable=True))[:, : self.k]
        first = counts.cumsum(0) - counts
        return first[:, None] + order, distance.gather(1, order)


def _by_query_and_score(query: Tensor, score: Tensor) -> Tensor:
    """Return the order of pairs by query and then by falling score, by one sort of whole numbers."""
    bits = score.view(torch.int32).long()
    ascending = torch.where(bits >= 0, bits, -(2**31) - bits)  # floats compare as these
    return (query * 2**32 + (2**31 - ascending)).argsort()


def squared_distances(
    queries: QueryBlock, query: Tensor, database: Descriptors, row: Tensor, work_bytes: int
) -> Tensor:
    """Return the squared Euclidean distances float64 [M] of different pairs of a query and a database row.

    Args:
        queries: Q of them, on any device; the result is there too.
        query: int64 [M], which of the queries.
        database: read in order, where rows are needed.
        row: int64 [M], which of its rows.
        work_bytes: about the most that is held of the queries in float64; a quarter of it of the rows, as stored.
    """
    out = torch.empty(len(query), dtype=torch.float64, device=query.device)
    at_once = max(1, work_bytes // (8 * database.shape[1]))
    for first in range(0, len(queries), at_once):
        block = _Queries(queries, first, min(first + at_once, len(queries)))
        own = ((query >= first) & (query < first + at_once)).nonzero()[:, 0] if len(block) < len(queries) else None
        if own is None:
            out = _of_block(block, query, database, row, work_bytes)
        elif len(own):
            out[own] = _of_block(block, query[own], database, row[own], work_bytes)
    return out


def distances_to(queries: QueryBlock, query: Tensor, vectors: Tensor, row: Tensor) -> Tensor:
    """Return the same [M] for rows of `vectors` [R,D], as stored, that are at hand on the CPU."""
    return _Queries(queries, 0, len(queries)).squared(query, vectors, row)


def _of_block(block: _Queries, query: Tensor, database: Descriptors, row: Tensor, work_bytes: int) -> Tensor:
    """Return the same for pairs of one block of queries, reading the rows in order."""
    out = torch.empty(len(query), dtype=torch.float64, device=query.device)
    rows, which = torch.unique(row, return_inverse=True)
    order = (which * len(block.queries) + query).argsort()
    ends = torch.bincount(which, minlength=len(rows)).cumsum(0).tolist()
    ends.append(0)  # what comes before the first
    read = max(1, work_bytes // (_READS * database.row_bytes))
    used = read if out.is_cuda else max(1, _ROUND_BYTES[0] // (8 * database.shape[1]))
    for start in range(0, len(rows), read):
        vectors = database.rows(rows[start : start + read].cpu().numpy()).to(out.device)
        for first in range(start, start + len(vectors), used):
            last = min(first + used, start + len(vectors))
            pairs = order[ends[first - 1] : ends[last - 1]]
            part = vectors[first - start : last - start]
            out[pairs] = block.squared(query[pairs], part, which[pairs] - first)
    return out


class _Queries:
    """Some of the queries, first..stop, in float64 where that is used."""

    def __init__(self, queries: QueryBlock, first: int, stop: int) -> None:
        self.queries, self._first, self._count = queries, first, stop - first
        if not queries.vectors.is_cuda:
            self._vectors = queries.vectors[first:stop].double()
            self._squares = _own_squares(self._vectors)

    def __len__(self) -> int:
        return self._count

    def squared(self, query: Tensor, vectors: Tensor, row: Tensor) -> Tensor:
        """Return the squared distances of queries int64 [M] to rows int64 [M] of `vectors` [R,D], as stored."""
        if vectors.is_cuda:
            return _by_differences(self.queries, query, vectors, row)
        order = query.argsort()
        own, row_in_order = query[order] - self._first, row[order]
        rows = vectors.float().double()
        sums = self._squares[own] + _own_squares(rows)[row_in_order]
        out = torch.empty_like(sums)
        out[order] = squared = sums - 2 * _products(self._vectors, own, rows, row_in_order)
        doubtful = order[squared < _SAFE * UNIT64 * (vectors.shape[1] + 17) * sums]
        if len(doubtful):
            out[doubtful] = _by_differences(self.queries, query[doubtful], vectors, row[doubtful])
        return out


def _own_squares(vectors: Tensor) -> Tensor:
    """Return squared norms [N] of float64 [N,D] by the same sum as `_products`."""
    each = torch.arange(len(vectors))
    return _products(vectors, each, vectors, each)


def _products(a: Tensor, a_rows: Tensor, b: Tensor, b_rows: Tensor) -> Tensor:
    """Return the inner products [M] of float64 a[a_rows[i]] and b[b_rows[i]]; a_rows ascend."""
    starts = torch.zeros(len(a) + 1, dtype=torch.int64)
    torch.cumsum(torch.bincount(a_rows, minlength=len(a)), 0, out=starts[1:])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # "sparse CSR is in beta"
        wanted = torch.sparse_csr_tensor(
            starts, b_rows, torch.zeros(len(b_rows), dtype=a.dtype), (len(a), len(b)), check_invariants=False
        )
        # Reads both rows where they lie: copies of the pairs' rows would cost ten times as much.
        products: Tensor = torch.sparse.sampled_addmm(wanted, a, b.T, beta=0.0).values()
    return products


def _by_differences(queries: QueryBlock, query: Tensor, vectors: Tensor, row: Tensor) -> Tensor:
    """Return squared distances [M], each of a query and of one of several equal rows computed once."""
    used, row = torch.unique(row, return_inverse=True)
    first, which = distinct_rows(vectors[used].float())
    pairs, back = torch.unique(query * len(first) + which[row], return_inverse=True)
    query, row = pairs // len(first), used[first][pairs % len(first)]
    squared = torch.empty(len(query), dtype=torch.float64, device=query.device)
    step = max(1, _ROUND_BYTES[query.device.type == "cuda"] // (8 * vectors.shape[1]))
    for start in range(0, len(query), step):
        part = slice(start, start + step)
        differences = queries.vectors[query[part]].double().sub_(vectors[row[part]])
        squared[part] = _row_sums(differences.square_())
    return squared[back]


def _row_sums(values: Tensor) -> Tensor:
    """Sum each row of [M,D] in a fixed tree, so that equal rows have equal sums whatever M and the device are."""
    while values.shape[1] > 1:
        half = values.shape[1] // 2
        folded = values[:, :half] + values[:, half : 2 * half]
        if values.shape[1] % 2:
            folded[:, 0] += values[:, -1]
        values = folded
    return values[:, 0]


def fits(rows: int, queries: QueryBlock, block_bytes: int) -> bool:
    """Say whether rows of a database, and their scores, take one read each at most; on a CPU."""
    return not queries.vectors.is_cuda and 4 * rows * max(queries.vectors.shape[1], len(queries)) <= block_bytes


def nearest_of_few(queries: QueryBlock, stored: Tensor, tile: Tile, k: int) -> tuple[Tensor, Tensor] | None:
    """Return squared distances float64 and rows int64, both [Q,k]: nearest first, equal ones in order of row.

    The same as of `Candidates.best`, by one product and one comparison, without sorting, which takes longer than a
    small product.

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
