"""aqe: each query is averaged with what it found, and the database is searched again."""

from __future__ import annotations

import dataclasses

import numpy as np
import torch
from numpy.typing import NDArray

from vgbench.retrieval.extraction.store import Descriptors
from vgbench.retrieval.predictions import Predictions
from vgbench.retrieval.rerank.base import RerankContext, Reranked, Reranker
from vgbench.retrieval.rerank.described import require_a_descriptor_a_query, weighted_mean

_BYTES = 16 * 2**20


class QueryExpansion(Reranker):
    """Average query expansion (Chum et al., Total Recall, 2007), and alpha-QE (Radenović et al., 2019).

    The first `--aqe_k` predictions, in the order that they come in, are added with the power `--aqe_alpha` of their
    cosine as weight. The new distances are those of the expanded queries, which later re-rankers see too.
    """

    def __call__(self, predictions: Predictions, context: RerankContext) -> Reranked:
        require_a_descriptor_a_query("aqe", predictions, context)
        options = context.options
        used = predictions.indices[:, : options.aqe_k]
        queries = _Expanded(context.queries, context.database, used, options.aqe_alpha)
        found = context.search(context.database, queries, predictions.indices.shape[1])
        return Reranked(found, context=dataclasses.replace(context, queries=queries))


class _Expanded(Descriptors):
    """Expanded queries, computed when they are read: at 16,384 dimensions each of them takes 64 KB."""

    def __init__(self, queries: Descriptors, database: Descriptors, used: NDArray[np.int64], alpha: float) -> None:
        self.path, self.fingerprint = queries.path, f"{queries.fingerprint}-aqe"
        self.shape, self.dtype = queries.shape, torch.float32
        self._queries, self._database, self._used, self._alpha = queries, database, used, alpha

    def read_into(self, start: int, out: torch.Tensor) -> None:
        np.copyto(out.numpy(), self.rows(np.arange(start, start + len(out))).numpy())

    def rows(self, rows: NDArray[np.int64], dimensions: slice = slice(None)) -> torch.Tensor:
        out = torch.empty((len(rows), len(range(self.shape[1])[dimensions])))
        step = max(1, _BYTES // (4 * self.shape[1] * (self._used.shape[1] + 1)))
        for start in range(0, len(rows), step):
            part = rows[start : start + step]
            near = self._used[part]
            others = self._database.rows(near.reshape(-1)).float().view(*near.shape, -1)
            out[start : start + len(part)] = weighted_mean(self._queries.rows(part).float(), others, self._alpha)[
                :, dimensions
            ]
        return out

    def close(self) -> None:
        pass
