"""selavpr and fol: candidates by the number of local features that find each other, without geometry."""

from __future__ import annotations

from concurrent.futures import Executor

import numpy as np
from numpy.typing import NDArray

from vgbench.models.network import Network
from vgbench.retrieval.predictions import Predictions
from vgbench.retrieval.rerank.base import RerankContext, Reranked, Reranker
from vgbench.retrieval.rerank.local.features import LocalFeatures, Matches
from vgbench.retrieval.rerank.local.nearest import NearestMatcher
from vgbench.retrieval.rerank.local.verification import Plan, verify
from vgbench.retrieval.rerank.options import RerankOptions
from vgbench.retrieval.rerank.tokens import TokenExtractor, check_tokens
from vgbench.runtime import Runtime

Points = NDArray[np.float32]


class SelavprReranker(Reranker):
    """Counts mutual nearest neighbours among the local features of SelaVPR's branch (Lu et al., 2024).

    The cost of a candidate is minus log(1 + matches); equal ones keep their order.
    """

    name = "selavpr"

    @classmethod
    def check(cls, network: Network | None, options: RerankOptions, runtime: Runtime) -> None:
        """Raise UserError where the network has no such branch."""
        check_tokens(cls.name, network)

    def __call__(self, predictions: Predictions, context: RerankContext) -> Reranked:
        plan = Plan(
            extractor=TokenExtractor(self.name, context),
            size=context.size,
            keypoints=0,
            matcher=Alike(self.least(context.options), context.runtime),
            judge=all_count,
        )
        return verify(self.name, (plan,), predictions, context, weight=0.0)

    @staticmethod
    def least(options: RerankOptions) -> float:
        """Return the cosine that a match has to exceed."""
        return -2.0


class FolReranker(SelavprReranker):
    """Counts those of the local features in FoL's reliable areas that are alike enough (Wang et al., 2025).

    They are mutual nearest neighbours whose cosine exceeds `--fol_similarity`.
    """

    name = "fol"

    @staticmethod
    def least(options: RerankOptions) -> float:
        return options.fol_similarity


class Alike:
    """Mutual nearest neighbours with a cosine above `least`.

    Args:
        least: the bound.
        runtime: the device.
    """

    def __init__(self, least: float, runtime: Runtime) -> None:
        self._least, self._nearest = least, NearestMatcher(1.0, runtime)

    def __call__(self, query: LocalFeatures, candidates: list[LocalFeatures], pool: Executor) -> list[Matches]:
        found = self._nearest(query, candidates, pool)
        if self._least < -1:
            return found
        vectors = query.vectors()
        return [
            pairs[(vectors[pairs[:, 0]] * one.vectors()[pairs[:, 1]]).sum(axis=1) > self._least]
            for one, pairs in zip(candidates, found, strict=True)
        ]


def all_count(query: Points, candidate: Points) -> tuple[float, NDArray[np.bool_]]:
    """Return how many matches [m,2] there are, and that all of them support it."""
    return float(len(query)), np.ones(len(query), np.bool_)
