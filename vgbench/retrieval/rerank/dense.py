"""dense: geometric verification with the backbone's own feature map, so without a second network."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from vgbench.errors import UserError
from vgbench.models.network import Network, features_for_inference
from vgbench.retrieval.extraction.extract import weights_hash
from vgbench.retrieval.predictions import Predictions
from vgbench.retrieval.rerank.base import RerankContext, Reranked, Reranker
from vgbench.retrieval.rerank.local.features import LocalFeatures
from vgbench.retrieval.rerank.local.geometry import inliers
from vgbench.retrieval.rerank.local.nearest import NearestMatcher
from vgbench.retrieval.rerank.local.verification import Plan, verify
from vgbench.retrieval.rerank.options import RerankOptions
from vgbench.runtime import Runtime


class DenseReranker(Reranker):
    """Matches cells of the feature maps that are mutual nearest neighbours, and scores how well they line up.

    After Patch-NetVLAD (Hausler et al., 2021), on the map itself: a feature is the mean of `--dense_patch` cells a
    side. `ransac` counts the inliers of `--local_model` within one and a half cells, `rapid` is the paper's rapid
    spatial score. Cost, ties and what is kept are those of `local`.
    """

    @staticmethod
    def check(network: Network | None, options: RerankOptions, runtime: Runtime) -> None:
        """Raise UserError where there is no network, or it gives no map."""
        if network is None:
            raise UserError("--rerank dense: there is no network. Expected the one that made the descriptors")
        kind = network.backbone.kind
        if kind != "map":
            raise UserError(
                f"--rerank dense: this backbone gives {kind}. Expected a feature map, as convolutional networks give; "
                "use --rerank local"
            )

    def __call__(self, predictions: Predictions, context: RerankContext) -> Reranked:
        options = context.options
        extractor = MapExtractor(context)
        plan = Plan(
            extractor=extractor,
            size=context.size,
            keypoints=0,
            matcher=NearestMatcher(1.0, context.runtime),
            judge=lambda query, candidate: judged(query, candidate, extractor, options),
        )
        return verify("dense", (plan,), predictions, context, weight=options.dense_weight)


class MapExtractor:
    """The cells of the network's feature map as local features: C float dimensions each, in rows from the top left.

    Args:
        context: whose network and image size are used.

    Raises:
        UserError: there is no network, or it gives no map.
    """

    binary = False

    def __init__(self, context: RerankContext) -> None:
        DenseReranker.check(context.network, context.options, context.runtime)
        assert context.network is not None  # as checked
        self._compute: Callable[[Tensor], Tensor] = features_for_inference(context.network, context.runtime)
        self._runtime, self._patch = context.runtime, context.options.dense_patch
        found = self._map(torch.zeros(1, 3, *context.size, dtype=torch.uint8))
        self.dim = found.shape[1]
        self.cells = (found.shape[2], found.shape[3])
        self.stride = max(context.size[0] / self.cells[0], context.size[1] / self.cells[1])
        precision = str(context.runtime.amp_dtype)
        self.name = f"dense{self._patch}-{weights_hash(context.network)[:12]}-{precision}"

    @torch.inference_mode()
    def __call__(self, images: Tensor) -> list[LocalFeatures]:
        height, width = images.shape[2:]
        maps = self._map(images).flatten(2).transpose(1, 2)
        rows, columns = self.cells
        y, x = np.divmod(np.arange(rows * columns), columns)
        centres = np.stack([(x + 0.5) * width / columns, (y + 0.5) * height / rows], axis=1).astype(np.float32)
        return [LocalFeatures(centres, one, (width, height)) for one in maps.float().cpu().numpy()]

    @torch.inference_mode()
    def _map(self, images: Tensor) -> Tensor:
        """Return unit features [B,C,h,w]."""
        found = self._compute(self._runtime.to_device(images))
        if self._patch > 1:
            found = F.avg_pool2d(found, self._patch, 1, self._patch // 2, count_include_pad=False)
        return F.normalize(found, dim=1)


def judged(
    query: NDArray[np.float32], candidate: NDArray[np.float32], extractor: MapExtractor, options: RerankOptions
) -> tuple[float, NDArray[np.bool_]]:
    """Score matched centres of cells [m,2] as `--dense_score` says, and say which matches support the score."""
    stride = extractor.stride
    if options.dense_score == "rapid":
        return rapid_score(query / stride, candidate / stride, (extractor.cells[1], extractor.cells[0]))
    good = inliers(query, candidate, options.local_model, 1.5 * stride, options.local_iterations)
    return float(good.sum()), good


def rapid_score(
    query: NDArray[np.float32], candidate: NDArray[np.float32], extent: tuple[int, int]
) -> tuple[float, NDArray[np.bool_]]:
    """Rapid spatial scoring (Hausler et al., 2021) of matches [m,2] in cells: how much all of them shift alike.

    Each match adds, an axis, half the square of one minus its shift's distance from the mean shift, in shares of the
    map. The paper scales by the largest shift found instead, which is zero for two images that are the same. Matches
    within the mean distance from the mean shift are said to support the score.

    Args:
        extent: width and height of the map in cells.
    """
    if not len(query):
        return 0.0, np.zeros(0, np.bool_)
    shifts = (candidate - query).astype(np.float64)
    off = np.abs(shifts - shifts.mean(axis=0)) / extent
    total = off.sum(axis=1)
    score = 0.5 * (np.maximum(1 - off, 0) ** 2).sum()
    return float(score), np.asarray(total <= total.mean())
