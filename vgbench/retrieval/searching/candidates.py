"""The rows that may still be among a query's k nearest, by float32 scores; exact distances for those that stay.

A distance in float64 is a function of its two descriptors and of nothing else, so the result of a search does not
depend on how the pairs were found, in what order, by how many processes or threads.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator

import torch
from torch import Tensor

from vgbench.retrieval.extraction.store import Descriptors
from vgbench.retrieval.searching.distinct import distinct_rows
from vgbench.retrieval.searching.finder_torch import UNIT64, QueryBlock, Tile, at_least, score_error, score_into
from vgbench.runtime import release_freed_memory

_ROUND_BYTES = (2**21, 2**26)  # float64 values of one round of differences: in a CPU's cache; on a GPU
_READS = 4
_DIMENSIONS = 2048  # rows are read so many dimensions at a time: pairs of more rows then lie in one read
_PIECE = 512  # and multiplied so many at a time in float64, so that the rows of a round stay in a core's cache
# |q|^2 + |d|^2 - 2 q.d loses digits where q and d are close. It is used while at most this many of its roundoffs could
# be in doubt a unit, which leaves 6 digits in the worst case and 9 or more as a rule (float16 values: all of them).
_SAFE = 2.0**20
_PAIR_BYTES = 16  # of a pair among few rows: its row and its squared distance
CROWDED = 4  # times k candidates of one query are too many to be left undecided
_CROWDED_FEW = 16  # and so many, on average, to be told apart one by one where all rows are in memory


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
        release_freed_memory()  # hundreds of blocks of many sizes leave the heap in fragments

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
        work_bytes: the most that is held of the queries in float64, some dimensions at a time, and four times what is
            held of the rows, as stored.
    """
    if query.is_cuda:
        return _by_reading(queries, query, database, row, work_bytes)
    squared = torch.empty(len(query), dtype=torch.float64)
    doubtful = torch.empty(len(query), dtype=torch.bool)
    at_once = max(1, work_bytes // (8 * min(database.shape[1], _PIECE)))
    for first in range(0, len(queries), at_once):
        block = slice(first, first + at_once)
        own: Tensor | slice = slice(None)
        if at_once < len(queries):
            own = ((query >= first) & (query < first + at_once)).nonzero()[:, 0]
        chosen = queries.vectors[block], query[own] - first
        squared[own], doubtful[own] = _by_products(*chosen, database, row[own], work_bytes // _READS)
    again = doubtful.nonzero()[:, 0]
    if len(again):
        squared[again] = _by_reading(queries, query[again], database, row[again], work_bytes)
    return squared


class _Reading:
    """The rows of some pairs, each once and in order, a read at a time."""

    def __init__(self, query: Tensor, row: Tensor, queries: int) -> None:
        self.rows, self.which = torch.unique(row, return_inverse=True)
        # By row, and each row's pairs by query.
        self._order = (self.which * queries + query).argsort()
        self._ends = torch.bincount(self.which, minlength=len(self.rows)).cumsum(0).tolist()
        self._ends.append(0)  # what comes before the first

    def pairs(self, first: int, last: int) -> tuple[Tensor, Tensor]:
        """Return the pairs int64 [m] of the rows first..last, and which of these rows each of them has."""
        pairs = self._order[self._ends[first - 1] : self._ends[last - 1]]
        return pairs, self.which[pairs] - first

    def read(self, database: Descriptors, at_once: int, dimensions: slice) -> Iterator[tuple[int, Tensor]]:
        """Yield where among the rows a read begins, and its vectors [<=at_once, d] as stored, on the CPU."""
        for start in range(0, len(self.rows), at_once):
            yield start, database.rows(self.rows[start : start + at_once].cpu().numpy(), dimensions)


def _by_products(
    vectors: Tensor, query: Tensor, database: Descriptors, row: Tensor, read_bytes: int
) -> tuple[Tensor, Tensor]:
    """Return squared distances float64 [M] of queries `vectors` [Q,D], and where (bool [M]) too few digits are left."""
    reading = _Reading(query, row, len(vectors))
    dim = database.shape[1]
    # All three are summed up over the same pieces in the same order: descriptors that are equal are 0 apart.
    own = torch.zeros(len(vectors), dtype=torch.float64)
    others = torch.zeros(len(reading.rows), dtype=torch.float64)
    both = torch.zeros(len(query), dtype=torch.float64)
    used = max(1, 2 * _ROUND_BYTES[0] // (8 * min(dim, _PIECE)))
    for start in range(0, dim, _DIMENSIONS):
        dimensions = slice(start, min(start + _DIMENSIONS, dim))
        asked = vectors[:, dimensions]
        for piece in _pieces(asked.shape[1]):
            own += _own_squares(asked[:, piece].double())
        at_once = max(1, read_bytes // (4 * asked.shape[1]))
        for begin, stored in reading.read(database, at_once, dimensions):
            for first in range(begin, begin + len(stored), used):
                last = min(first + used, begin + len(stored))
                pairs, which = reading.pairs(first, last)
                by_query = query[pairs].argsort()
                pairs, which = pairs[by_query], which[by_query]
                rows = stored[first - begin : last - begin]
                both[pairs] = _add_products(both[pairs], others[first:last], asked, rows, (query[pairs], which))
    sums = own[query] + others[reading.which]
    squared = sums - 2 * both
    return squared, squared < _SAFE * UNIT64 * (dim + 17) * sums


def _add_products(both: Tensor, squares: Tensor, asked: Tensor, rows: Tensor, pairs: tuple[Tensor, Tensor]) -> Tensor:
    """Add the inner products of pairs of `asked` [q,d] and `rows` [r,d], and, in place, the squares of the rows."""
    wanted = _pattern(*pairs, (len(asked), len(rows)))
    for piece in _pieces(rows.shape[1]):
        vectors = rows[:, piece].double()
        squares += _own_squares(vectors)
        both = both + _products(wanted, asked[:, piece].double(), vectors)
    return both


def _by_reading(queries: QueryBlock, query: Tensor, database: Descriptors, row: Tensor, work_bytes: int) -> Tensor:
    """Return the same [M] by differences, of rows that are read whole."""
    squared = torch.empty(len(query), dtype=torch.float64, device=query.device)
    reading = _Reading(query, row, len(queries))
    at_once = max(1, work_bytes // (_READS * database.row_bytes))
    used = at_once if query.is_cuda else max(1, _ROUND_BYTES[0] // (8 * database.shape[1]))
    for begin, stored in reading.read(database, at_once, slice(None)):
        vectors = stored.to(query.device)
        for first in range(begin, begin + len(vectors), used):
            last = min(first + used, begin + len(vectors))
            pairs, which = reading.pairs(first, last)
            squared[pairs] = _by_differences(queries, query[pairs], vectors[first - begin : last - begin], which)
    return squared


def _pieces(dim: int) -> list[slice]:
    return [slice(start, min(start + _PIECE, dim)) for start in range(0, dim, _PIECE)]


def _own_squares(vectors: Tensor) -> Tensor:
    """Return squared norms [N] of float64 [N,D] by the same sum as `_products`."""
    each = torch.arange(len(vectors))
    return _products(_pattern(each, each, (len(vectors), len(vectors))), vectors, vectors)


def _pattern(a_rows: Tensor, b_rows: Tensor, shape: tuple[int, int]) -> Tensor:
    """Return a sparse float64 matrix that has a place for each pair, int64 [M] each; a_rows ascend."""
    starts = torch.zeros(shape[0] + 1, dtype=torch.int64)
    torch.cumsum(torch.bincount(a_rows, minlength=shape[0]), 0, out=starts[1:])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # "sparse CSR is in beta"
        places = torch.zeros(len(b_rows), dtype=torch.float64)
        return torch.sparse_csr_tensor(starts, b_rows, places, shape, check_invariants=False)


def _products(wanted: Tensor, a: Tensor, b: Tensor) -> Tensor:
    """Return the inner products float64 [M] of a[i] and b[j], for the places (i, j) of a `_pattern`."""
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
    """Say whether rows of a database take one read at most, and their scores four; on a CPU."""
    values = rows * queries.vectors.shape[1], rows * len(queries) // 4  # less is done with the scores
    return not queries.vectors.is_cuda and 4 * max(values) <= block_bytes


def nearest_of_few(
    queries: QueryBlock, stored: Descriptors, tile: Tile, k: int, work_bytes: int
) -> tuple[Tensor, Tensor] | None:
    """Return squared distances float64 and rows int64, both [Q,k]: nearest first, equal ones in order of row.

    The same as of `Candidates.best`, by one product and one comparison, without sorting, which takes longer than a
    small product.

    Args:
        stored: the rows as they are in the file; `tile` has them in float32.
        k: at most as many as there are rows.
        work_bytes: as for `squared_distances`.

    Returns:
        None where too many rows are nearly as near as the k-th, which the search that streams knows to deal with.
    """
    # Of groups of rows, k hold one as good as the k-th group's best: so the k-th best row is no worse.
    group = max(1, tile.rows // (4 * k))
    scores = torch.empty((-(-tile.rows // group) * group, len(queries)))
    scores[tile.rows :] = -torch.inf
    score_into(scores[: tile.rows], tile, queries)
    kth = scores.view(-1, group, len(queries)).amax(1).T.topk(k).values[:, -1]
    passing = at_least(scores[: tile.rows], kth - 2 * score_error(tile.dim, queries.norms, tile.radius))
    if int(passing.count_nonzero()) > _CROWDED_FEW * k * len(queries):
        return None
    row, query = passing.nonzero(as_tuple=True)
    counts = torch.bincount(query)
    if _PAIR_BYTES * len(queries) * int(counts.max()) > work_bytes:
        return None
    by_query = query.argsort(stable=True)  # the few that pass, rather than a transposed copy of all
    query, row = query[by_query], row[by_query]
    column = torch.arange(len(query)) - (counts.cumsum(0) - counts)[query]
    squared = torch.full((len(queries), int(counts.max())), torch.inf, dtype=torch.float64)
    rows = torch.zeros_like(squared, dtype=torch.int64)
    squared[query, column] = squared_distances(queries, query, stored, row, work_bytes)
    rows[query, column] = row  # ascending, which a stable sort keeps among equals
    nearest, order = squared.sort(dim=1, stable=True)
    return nearest[:, :k], rows.gather(1, order[:, :k])
