"""spatial: candidates that lie together vouch for each other; no image is looked at again."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from vgbench.errors import UserError
from vgbench.retrieval.predictions import Predictions
from vgbench.retrieval.rerank.base import RerankContext, Reranked, Reranker
from vgbench.retrieval.rerank.order import permuted
from vgbench.retrieval.rerank.spatial_clusters import CLUSTERS

_ELEMENTS = 4_000_000  # of one [queries, K, K] array


class SpatialReranker(Reranker):
    """Clusters the candidates' own coordinates and orders by the clusters (`--spatial_order`).

    * size: larger clusters first, each as a block in its own order, equal ones by their best member.
    * distance: larger clusters first, members of equal ones together by distance.
    * representative: of each cluster the best member first, larger clusters first, then all others by distance.
    * representative_distance: of each cluster the best member first, by distance, then all others by distance.

    The distances stay the candidates' own, raised to the largest before them where the order is another.
    """

    def __call__(self, predictions: Predictions, context: RerankContext) -> Reranked:
        options = context.options
        if not np.isfinite(context.split.database.utm).all():
            raise UserError(
                f"--rerank spatial: {context.split.database.root} has no coordinates. Expected names with positions; "
                "leave it out"
            )
        head = min(options.rerank_topk, predictions.indices.shape[1])
        order = np.empty((len(predictions), head), np.int64)
        step = max(1, _ELEMENTS // head**2)
        for start in range(0, len(predictions), step):
            utm = context.split.database.utm[predictions.indices[start : start + step, :head]]
            labels, sizes = CLUSTERS[options.spatial_cluster](squared_distances(utm), options.spatial_radius)
            order[start : start + step] = spatial_order(labels, sizes, options.spatial_order)
        return Reranked(permuted(predictions, order))


def squared_distances(utm: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the squared distances between the candidates of each query: [Q,K,2] -> [Q,K,K], square metres."""
    return np.asarray(((utm[:, :, None] - utm[:, None]) ** 2).sum(-1))


def spatial_order(labels: NDArray[np.int64], sizes: NDArray[np.int64], rule: str) -> NDArray[np.int64]:
    """Return the new order of each query's candidates: positions int64 [Q,K].

    Args:
        labels: int64 [Q,K], each candidate's cluster, named by the position of one of its members.
        sizes: int64 [Q,K], how large each candidate's cluster is.
        rule: as `--spatial_order`.
    """
    positions = np.broadcast_to(np.arange(labels.shape[1]), labels.shape)
    same = labels[:, :, None] == labels[:, None]
    best = same.argmax(2)  # the first member of each candidate's cluster
    behind = positions != best
    keys = {
        "size": (positions, best, -sizes),
        "distance": (positions, -sizes),
        "representative": (positions, np.where(behind, 0, -sizes), behind),
        "representative_distance": (positions, behind),
    }[rule]
    return np.lexsort(keys, axis=1).astype(np.int64)
