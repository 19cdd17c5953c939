"""aqe: each query is averaged with what it found, and the database is searched again."""

from __future__ import annotations

import dataclasses

import numpy as np
import torch

from vgbench.retrieval.extraction.store import InMemory
from vgbench.retrieval.predictions import Predictions
from vgbench.retrieval.rerank.base import RerankContext, Reranked, Reranker
from vgbench.retrieval.rerank.described import require_a_descriptor_a_query, weighted_mean

_BYTES = 64 * 2**20


class QueryExpansion(Reranker):
    """Average query expansion (Chum et al., Total Recall, 2007), and alpha-QE (Radenović et al., 2019).

    The first `--aqe_k` predictions, in the order that they come in, are added with the power `--aqe_alpha` of their
    cosine as weight. The new distances are those of the expanded queries, which later re-rankers see too.
    """

    def __call__(self, predictions: Predictions, context: RerankContext) -> Reranked:
        require_a_descriptor_a_query("aqe", predictions, context)
        options = context.options
        used = predictions.indices[:, : options.aqe_k]
        expanded = torch.empty(context.queries.shape)
        step = max(1, _BYTES // (4 * context.queries.shape[1] * (used.shape[1] + 1)))
        for start in range(0, len(used), step):
            rows = used[start : start + step]
            own = context.queries.read(start, start + len(rows)).float()
            others = context.database.rows(np.ascontiguousarray(rows).reshape(-1)).float()
            expanded[start : start + len(rows)] = weighted_mean(own, others.view(*rows.shape, -1), options.aqe_alpha)
        queries = InMemory(expanded, context.queries.path, f"{context.queries.fingerprint}-aqe")
        found = context.search(context.database, queries, predictions.indices.shape[1])
        return Reranked(found, context=dataclasses.replace(context, queries=queries))
