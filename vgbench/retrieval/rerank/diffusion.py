"""diffusion: similarity that flows from a query along the database's neighbourhood graph."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_matrix, diags, identity
from scipy.sparse.linalg import cg

from vgbench.errors import UserError
from vgbench.retrieval.extraction.store import Descriptors
from vgbench.retrieval.predictions import Predictions
from vgbench.retrieval.rerank.base import RerankContext, Reranked, Reranker
from vgbench.retrieval.rerank.described import require_a_descriptor_a_query
from vgbench.retrieval.rerank.neighbour_lists import NeighbourLists

_NODES = 200_000  # of the graphs that are solved at once
_BYTES = 64 * 2**20
TOLERANCE = 1e-6
ITERATIONS = 500


class DiffusionReranker(Reranker):
    """Diffusion on the graph of images (Iscen et al., Efficient Diffusion on Region Manifolds, 2017).

    The query's `--diffusion_size` nearest images are the nodes of its own graph (the paper's truncation). Two are
    joined where each is among the other's `--diffusion_k` nearest in the whole database, by their cosine to the power
    of `--diffusion_gamma`. The query starts from its `--diffusion_query_k` nearest, weighted likewise, and
    (I - alpha S) f = y is solved by conjugate gradients. The cost is minus f over its largest value; nodes that nothing
    reaches keep the order of their distances.
    """

    def __call__(self, predictions: Predictions, context: RerankContext) -> Reranked:
        require_a_descriptor_a_query("diffusion", predictions, context)
        options, count = context.options, predictions.indices.shape[1]
        found = context.search(context.database, context.queries, max(options.diffusion_size, count))
        size = found.indices.shape[1]
        graph = _Graph(
            context.database, NeighbourLists(context.database, None, options.diffusion_k + 1, context.search)
        )
        own = squared_norms(context.queries, np.arange(len(predictions)))
        first = slice(0, options.diffusion_query_k)
        costs = np.empty((len(predictions), size))
        step = max(1, _NODES // size)
        for start in range(0, len(predictions), step):
            part = slice(start, start + step)
            joined = graph.joined(found.indices[part], options.diffusion_gamma)
            cosines = cosine(found.distances[part, first], own[part, None] + graph.norms(found.indices[part, first]))
            source = np.zeros(found.indices[part].shape)
            source[:, first] = cosines**options.diffusion_gamma
            reached = solved(joined, source.reshape(-1), options.diffusion_alpha).reshape(source.shape)
            costs[part] = -reached / np.maximum(reached.max(axis=1, keepdims=True), 1e-30)
        order = np.argsort(costs, axis=1, kind="stable")[:, :count]
        values = np.take_along_axis(costs, order, axis=1).astype(np.float32)
        return Reranked(Predictions(np.take_along_axis(found.indices, order, axis=1), values))


class _Graph:
    def __init__(self, database: Descriptors, lists: NeighbourLists) -> None:
        self._database, self._lists = database, lists
        self._norms = np.full(len(database), np.nan)

    def norms(self, rows: NDArray[np.int64]) -> NDArray[np.float64]:
        """Return squared norms, float64 [n], of rows int64 [n] that are read once."""
        missing = np.unique(rows[np.isnan(self._norms[rows])])
        self._norms[missing] = squared_norms(self._database, missing)
        return np.asarray(self._norms[rows])

    def joined(self, nodes: NDArray[np.int64], gamma: float) -> csr_matrix:
        """Return the weights between the nodes of each query's own graph: [Q M, Q M] in blocks, symmetric, no loops.

        Args:
            nodes: int64 [Q,M], distinct database rows of each query.
        """
        queries, size = nodes.shape
        near, apart = self._lists.of(nodes)[:, :, 1:], self._lists.distances_of(nodes)[:, :, 1:]
        keys = (np.arange(queries)[:, None] * len(self._database) + nodes).reshape(-1)
        order = np.argsort(keys)
        asked = (np.arange(queries)[:, None, None] * len(self._database) + near).reshape(-1)
        at = order[np.minimum(np.searchsorted(keys, asked, sorter=order), len(keys) - 1)]
        inside = keys[at] == asked
        source = np.repeat(np.arange(queries * size), near.shape[2])[inside]
        norms = (self.norms(nodes)[:, :, None] + self.norms(near)).reshape(-1)[inside]
        weights = cosine(apart.reshape(-1)[inside], norms) ** gamma
        directed = csr_matrix((weights, (source, at[inside])), (queries * size, queries * size))
        mutual: csr_matrix = directed.minimum(directed.T).tocsr()
        return mutual


def cosine(distances: NDArray[np.float32], norms: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return 1 - d^2 / (|a|^2 + |b|^2), not below zero: the cosine of vectors of equal length.

    Args:
        distances: Euclidean, float32 [Q,K].
        norms: the sums of both squared norms, float64 [Q,K].
    """
    return np.maximum(1 - distances.astype(np.float64) ** 2 / np.maximum(norms, 1e-30), 0)


def squared_norms(descriptors: Descriptors, rows: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return the squared norms of some rows, float64 [M]."""
    out = np.empty(len(rows))
    step = max(1, _BYTES // (8 * descriptors.shape[1]))
    for start in range(0, len(rows), step):
        part = slice(start, start + step)
        out[part] = descriptors.rows(rows[part]).double().square().sum(1).numpy()
    return out


def solved(weights: csr_matrix, source: NDArray[np.float64], alpha: float) -> NDArray[np.float64]:
    """Solve (I - alpha D^-1/2 W D^-1/2) f = y, float64 [N], by conjugate gradients; nodes without neighbours keep y.

    Raises:
        UserError: no solution within ITERATIONS steps.
    """
    degrees = np.asarray(weights.sum(axis=1)).reshape(-1)
    scale = diags(np.where(degrees > 0, 1 / np.sqrt(np.maximum(degrees, 1e-30)), 0.0))
    system = identity(len(source), format="csr") - alpha * (scale @ weights @ scale)
    found, failed = cg(system, source, rtol=TOLERANCE, maxiter=ITERATIONS)
    if failed:
        raise UserError(
            f"--diffusion_alpha {alpha}: no solution within {ITERATIONS} steps. Expected a graph that converges; "
            "use a smaller one"
        )
    return np.asarray(found)
