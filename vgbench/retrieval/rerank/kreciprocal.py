"""kreciprocal: who is whose neighbour counts for more than the distance alone."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_matrix

from vgbench.retrieval.predictions import Predictions
from vgbench.retrieval.rerank.base import RerankContext, Reranked, Reranker
from vgbench.retrieval.rerank.described import require_a_descriptor_a_query
from vgbench.retrieval.rerank.neighbour_lists import NeighbourLists
from vgbench.retrieval.rerank.order import reordered

_ELEMENTS = 4_000_000  # of the largest array of a block of nodes
_ENTRIES = 20_000_000  # of the vectors of the candidates of a block of queries


class KReciprocalReranker(Reranker):
    """k-reciprocal encoding (Zhong et al., Re-ranking Person Re-identification with k-reciprocal Encoding, 2017).

    Each query and each candidate becomes a sparse vector over all images and queries: exp(-d) for those that are its
    k-reciprocal neighbours, with the neighbours' own where two thirds of them agree, averaged over its k2 nearest. The
    cost is `--kreciprocal_lambda` d plus the rest of the Jaccard distance of the two vectors, where d is the squared
    distance over the sum of the squared norms.

    Each query is alone with the database: a database image's neighbours are database images, and one is a reciprocal
    neighbour of the query where the query is nearer to it than its own k1-th. With `--kreciprocal_joint`, as published,
    all queries of the run are nodes like the database's images, and each other's neighbours.

    Only the neighbourhoods of candidates are searched, and vectors are sparse: memory is a few hundred bytes a needed
    image, time that of searching the database with the needed images.
    """

    def __call__(self, predictions: Predictions, context: RerankContext) -> Reranked:
        options = context.options
        require_a_descriptor_a_query("kreciprocal", predictions, context)
        head = min(options.rerank_topk, predictions.indices.shape[1])
        lists = NeighbourLists(
            context.database, context.queries, options.kreciprocal_k1 + 1, context.search, options.kreciprocal_joint
        )
        candidates = predictions.indices[:, :head]
        queries = len(context.database) + np.arange(len(predictions))
        encode = Encoding(lists, options.kreciprocal_k1, options.kreciprocal_k2)
        own = encode(queries)
        distinct, index = np.unique(candidates, return_inverse=True)
        theirs = encode(distinct)
        shared = shared_weight(own, theirs, index.reshape(candidates.shape))
        jaccard = 1 - shared / (2 - shared)
        distance = lists.dissimilarity(np.repeat(queries, head), candidates.reshape(-1)).reshape(candidates.shape)
        share = options.kreciprocal_lambda
        return Reranked(reordered(predictions, share * distance + (1 - share) * jaccard))


@dataclass(frozen=True)
class Encoding:
    """Makes the vectors of nodes: each a row of a sparse matrix, its weights summing to one.

    Args:
        lists: of at least k1 + 1 nodes each, or of all where there are fewer.
        k1: neighbours that are compared.
        k2: neighbours, itself among them, that are averaged over.
    """

    lists: NeighbourLists
    k1: int
    k2: int

    def __call__(self, nodes: NDArray[np.int64]) -> csr_matrix:
        """Return float64 [n, nodes of the graph]."""
        near = self.lists.of(nodes)[:, : self.k2]
        distinct, index = np.unique(near, return_inverse=True)
        vectors = self._vectors(distinct)
        ends = np.arange(0, near.size + 1, near.shape[1])
        mean = csr_matrix((np.full(near.size, 1 / near.shape[1]), index.reshape(-1), ends), (len(nodes), len(distinct)))
        return mean @ vectors

    def _vectors(self, nodes: NDArray[np.int64]) -> csr_matrix:
        width = self.lists.count
        step = max(1, _ELEMENTS // (width * width * (self._half + 1)))
        parts = [self._members(nodes[start : start + step]) for start in range(0, len(nodes), step)]
        counts = np.concatenate([count for count, _ in parts])
        members = np.concatenate([member for _, member in parts])
        weights = np.exp(-self.lists.dissimilarity(np.repeat(nodes, counts), members))
        ends = np.concatenate([[0], np.cumsum(counts)])
        weights /= np.repeat(np.add.reduceat(weights, ends[:-1]), counts)
        return csr_matrix((weights, members, ends), (len(nodes), self.lists.nodes))

    @property
    def _half(self) -> int:
        return round(self.k1 / 2)

    def _members(self, nodes: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Return how many nodes each one's expanded set has, and the sets one after the other, ascending."""
        near = self.lists.of(nodes)
        mutual = self._mutual(nodes, near, self.k1)
        # What each reciprocal neighbour would bring along, [n, width, half + 1].
        others = self.lists.of(near)[:, :, : self._half + 1]
        flat = near.reshape(-1)
        brought = self._mutual(flat, others.reshape(len(flat), -1), self._half).reshape(others.shape)
        known = np.where(mutual, near, -1)
        common = ((others[..., None] == known[:, None, None]).any(-1) & brought).sum(2)
        agree = mutual & (3 * common > 2 * brought.sum(2))
        row = np.arange(len(nodes))
        keys = [(row[:, None] * self.lists.nodes + near)[mutual]]
        keys.append((row[:, None, None] * self.lists.nodes + others)[brought & agree[:, :, None]])
        members = np.unique(np.concatenate(keys))
        return np.bincount(members // self.lists.nodes, minlength=len(nodes)), members % self.lists.nodes

    def _mutual(self, nodes: NDArray[np.int64], near: NDArray[np.int64], k: int) -> NDArray[np.bool_]:
        """Say which of the first k neighbours (and the node itself) have the node among their own first k."""
        theirs = self.lists.of(near)[:, :, : k + 1]
        back = (theirs == nodes[:, None, None]).any(-1)
        if not self.lists.joint:  # a query stands in no other list, so its distance says where it would stand
            rows = np.flatnonzero(nodes >= len(self.lists.database))
            if len(rows) and theirs.shape[2] > k:
                reach = self.lists.distances_of(near[rows])[:, :, k]
                back[rows] |= self.lists.distances_of(nodes[rows])[:, : near.shape[1]] < reach
            else:  # there are no k others
                back[rows] = True
        back[:, k + 1 :] = False
        return np.asarray(back)


def shared_weight(own: csr_matrix, theirs: csr_matrix, index: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return the sum of the smaller weights of each query's vector and each of its candidates', float64 [Q,K].

    Args:
        own: [Q, nodes], of the queries.
        theirs: [C, nodes], of the distinct candidates.
        index: int64 [Q,K], rows of `theirs`.
    """
    nodes = own.shape[1]
    own.sort_indices()
    queries, head = index.shape
    keys = np.repeat(np.arange(queries), np.diff(own.indptr)) * nodes + own.indices
    lengths = np.diff(theirs.indptr)
    out = np.empty((queries, head))
    step = max(1, int(_ENTRIES // max(1, head * lengths.mean())))
    for start in range(0, queries, step):
        rows = index[start : start + step].reshape(-1)
        counts = lengths[rows]
        ends = np.cumsum(counts)
        entry = np.arange(ends[-1]) + np.repeat(theirs.indptr[rows] - (ends - counts), counts)
        pair = np.repeat(np.arange(len(rows)), counts)
        asked = (start + pair // head) * nodes + theirs.indices[entry]
        at = np.minimum(np.searchsorted(keys, asked), len(keys) - 1)
        smaller = np.where(keys[at] == asked, np.minimum(own.data[at], theirs.data[entry]), 0.0)
        out[start : start + step] = np.bincount(pair, smaller, len(rows)).reshape(-1, head)
    return out
