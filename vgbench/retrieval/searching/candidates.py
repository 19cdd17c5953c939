"""The rows that may still be among a query's k nearest, by float32 scores; exact distances for those that stay."""

from __future__ import annotations

import torch
from torch import Tensor

from vgbench.retrieval.extraction.store import Descriptors
from vgbench.retrieval.searching.distances import squared_distances
from vgbench.retrieval.searching.tile import QueryBlock

_CROWDED = 4  # times k candidates of one query are too many to be left undecided


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
        starts = self._starts(query)
        counts = torch.diff(starts, append=starts.new_tensor([len(query)]))
        full = (counts >= self.k).nonzero()[:, 0]
        reached = score[starts[full] + self.k - 1].double() - self._error[full]
        self.floor[full] = torch.maximum(self.floor[full], reached)
        kept = score >= (self.floor - self._error)[query]
        self._query, self._row, self._score = query[kept], row[kept], score[kept]
        crowded = torch.bincount(self._query, minlength=len(self._queries)) > _CROWDED * self.k
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

    def _starts(self, query: Tensor) -> Tensor:
        """Return where each query's pairs begin, int64 [Q], in pairs that are in order of query."""
        counts = torch.bincount(query, minlength=len(self._queries))
        return counts.cumsum(0) - counts


def _by_query_and_score(query: Tensor, score: Tensor) -> Tensor:
    """Return the order of pairs by query and then by falling score, by one sort of whole numbers."""
    bits = score.view(torch.int32).long()
    ascending = torch.where(bits >= 0, bits, -(2**31) - bits)  # floats compare as these
    return (query * 2**32 + (2**31 - ascending)).argsort()
