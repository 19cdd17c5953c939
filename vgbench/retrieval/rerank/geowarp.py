"""geowarp: candidates cut to what they share with the query, and compared by their local features there."""

from __future__ import annotations

import torch
from torch import Tensor

from vgbench.errors import UserError
from vgbench.models.geowarp import difference, geowarp_of, warp
from vgbench.models.network import Network, features_for_inference
from vgbench.retrieval.predictions import Predictions
from vgbench.retrieval.rerank.base import RerankContext, Reranked, Reranker
from vgbench.retrieval.rerank.options import RerankOptions
from vgbench.retrieval.rerank.pairwise import PairwiseReranker
from vgbench.runtime import Runtime


class GeowarpReranker(Reranker):
    """Orders the candidates by the distance of dense local features after warping (Berton et al., ICCV 2021).

    The network's GeoWarp, which `train.py --train_mode geowarp` trains, says which quadrilateral of the query and
    which of the candidate show the same; both are stretched to whole images and described again. The distances become
    the mean squared distance of local features of unit length, 0 to 4.
    """

    @staticmethod
    def check(network: Network | None, options: RerankOptions, runtime: Runtime) -> None:
        """Raise UserError where the network has no GeoWarp."""
        if geowarp_of(network) is None:
            raise UserError(
                "--rerank geowarp: this network has no GeoWarp. Expected a checkpoint of --train_mode geowarp; train "
                "one: train.py --train_mode geowarp --start_from=<your checkpoint>"
            )

    def __call__(self, predictions: Predictions, context: RerankContext) -> Reranked:
        return PairwiseReranker(GeowarpScorer(context))(predictions, context)


class GeowarpScorer:
    """Pairs of images to minus the distance of what they share.

    Args:
        context: whose network and image size are used.

    Raises:
        UserError: the network has no GeoWarp.
    """

    def __init__(self, context: RerankContext) -> None:
        GeowarpReranker.check(context.network, context.options, context.runtime)
        geowarp = geowarp_of(context.network)
        assert context.network is not None and geowarp is not None  # as checked
        self.size = context.size
        self._network, self._geowarp = context.network, geowarp.eval()
        self._maps = features_for_inference(context.network, context.runtime)

    @torch.inference_mode()
    def pair_scores(self, query_images: Tensor, candidate_images: Tensor) -> Tensor:
        """Return minus the distances of pairs of uint8 [B,3,H,W]: float32 [B]."""
        distinct, which = torch.unique_consecutive(query_images, return_inverse=True, dim=0)
        queries, candidates = self._network.normalise(distinct), self._network.normalise(candidate_images)
        maps = self._maps(torch.cat([queries, candidates]))
        quads = self._geowarp.both_ways(maps[: len(queries)][which], maps[len(queries) :])
        cut = torch.cat([warp(queries[which], quads[:, 0]), warp(candidates, quads[:, 1])])
        return -difference(*self._maps(cut).chunk(2))
