"""r2former and pairvpr: candidates by what a network makes of the stored tokens of two images."""

from __future__ import annotations

import time
from typing import cast

import numpy as np
import torch
from torch import Tensor

from vgbench.models.base import PairNetwork
from vgbench.models.network import Network
from vgbench.retrieval.predictions import Predictions
from vgbench.retrieval.rerank.base import RerankContext, Reranked, Reranker
from vgbench.retrieval.rerank.local.store import FeatureStore
from vgbench.retrieval.rerank.local.verification import features_of_both
from vgbench.retrieval.rerank.options import RerankOptions
from vgbench.retrieval.rerank.order import reordered
from vgbench.retrieval.rerank.pairwise import PAIRS_AT_ONCE
from vgbench.retrieval.rerank.tokens import TokenExtractor, check_tokens
from vgbench.runtime import Runtime


class TokenPairReranker(Reranker):
    """Orders the candidates by the scores of the network's part that compares two images, largest first.

    The tokens of an image are found once and kept (`TokenExtractor`); the costs are minus the scores, and equal ones
    keep their order.

    Attributes:
        name: of the re-ranker.
        pairs_at_once: the batch.
    """

    name: str
    pairs_at_once = PAIRS_AT_ONCE

    @classmethod
    def check(cls, network: Network | None, options: RerankOptions, runtime: Runtime) -> None:
        """Raise UserError where the network has no such part."""
        check_tokens(cls.name, network)

    @torch.inference_mode()
    def __call__(self, predictions: Predictions, context: RerankContext) -> Reranked:
        head = min(context.options.rerank_topk, predictions.indices.shape[1])
        candidates = predictions.indices[:, :head]
        start = time.perf_counter()
        extractor = TokenExtractor(self.name, context)
        queries, database = features_of_both(extractor, context.size, 0, candidates, context)
        preparing = time.perf_counter() - start
        costs = np.empty(candidates.shape)
        for place, query in enumerate(context.all_queries[1].tolist()):
            own = _tokens(queries, [query], context.runtime)
            for first in range(0, head, self.pairs_at_once):
                part = slice(first, first + self.pairs_at_once)
                others = _tokens(database, candidates[place, part].tolist(), context.runtime)
                costs[place, part] = -self._scores(extractor, own, others).cpu().numpy()
        size = database.bytes_per_image
        queries.close()
        database.close()
        return Reranked(reordered(predictions, costs), size, preparing)

    def _scores(self, extractor: TokenExtractor, query: Tensor, others: Tensor) -> Tensor:
        network = cast(PairNetwork, extractor.tokens)
        with extractor.runtime.autocast():
            return network.pair_scores(query.expand(len(others), -1, -1), others).float()


class R2formerReranker(TokenPairReranker):
    """R2Former's transformer on the correlations of local tokens (Zhu et al., 2023): minus the probability."""

    name = "r2former"


class PairvprReranker(TokenPairReranker):
    """Pair-VPR's decoder, on both orders of the pair (Hausler and Moghadam, 2025): minus the sum of the logits."""

    name = "pairvpr"


def _tokens(store: FeatureStore, rows: list[int], runtime: Runtime) -> Tensor:
    """Return the tokens of some images, float32 [n,T,C] on the device."""
    found = np.stack([store.read(row).vectors() for row in rows])
    return torch.from_numpy(found).to(runtime.device)
