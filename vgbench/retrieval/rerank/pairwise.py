"""Networks that look at a query and a candidate together: the hook for a learned re-ranker of pairs of images."""

from __future__ import annotations

from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from vgbench.data.loader import decode_batch
from vgbench.retrieval.predictions import Predictions
from vgbench.retrieval.rerank.base import RerankContext, Reranked, Reranker
from vgbench.retrieval.rerank.order import reordered

PAIRS_AT_ONCE = 16


class PairScorer(Protocol):
    """What a pairwise network offers.

    Attributes:
        size: height and width in pixels of the images that it takes.
    """

    size: tuple[int, int]

    def pair_scores(self, query_images: Tensor, candidate_images: Tensor) -> Tensor:
        """Return a score a pair, float [B], the larger the likelier the same place.

        Args:
            query_images, candidate_images: uint8 [B,3,H,W] on the runtime's device; row i of one belongs to row i of
                the other.
        """


class PairwiseReranker(Reranker):
    """Orders the candidates by the scores of a pairwise network, largest first; equal ones keep their order.

    Make a subclass without arguments for `--rerank package.module:Class`, or call it from one. Each query's image is
    decoded once and each candidate's once a query.

    Args:
        scorer: the network.
        pairs_at_once: the batch.
    """

    def __init__(self, scorer: PairScorer, pairs_at_once: int = PAIRS_AT_ONCE) -> None:
        self._scorer, self._pairs_at_once = scorer, pairs_at_once

    @torch.inference_mode()
    def __call__(self, predictions: Predictions, context: RerankContext) -> Reranked:
        head = min(context.options.rerank_topk, predictions.indices.shape[1])
        rows = predictions.indices[:, :head].reshape(-1)
        scores = np.empty(rows.size)
        size, device = self._scorer.size, context.runtime
        for start in range(0, rows.size, self._pairs_at_once):
            pairs = np.arange(start, min(start + self._pairs_at_once, rows.size))
            distinct, which = np.unique(pairs // head, return_inverse=True)
            queries = decode_batch(context.split.queries, distinct, size)[torch.from_numpy(which)]
            candidates = decode_batch(context.split.database, rows[pairs], size)
            found = self._scorer.pair_scores(device.to_device(queries), device.to_device(candidates))
            scores[pairs] = found.float().cpu().numpy()
        return Reranked(reordered(predictions, -scores.reshape(-1, head)))
