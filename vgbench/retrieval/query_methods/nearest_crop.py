"""nearest_crop: each of five crops is searched, and the nearest finds win."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from vgbench.retrieval.predictions import Predictions
from vgbench.retrieval.query_methods.five_crops import FiveCrops


class NearestCrop(FiveCrops):
    """The crops of five_crops, their predictions merged by distance, each image once (Berton et al., 2022)."""

    described = 5

    def merge(self, predictions: Predictions) -> Predictions:
        count, depth = predictions.indices.shape
        indices = predictions.indices.reshape(count // self.described, self.described, depth)
        distances = predictions.distances.reshape(indices.shape)
        squared = self.scores(indices, distances.astype(np.float64) ** 2).reshape(len(indices), -1)
        return nearest_distinct(indices.reshape(squared.shape), squared, distances.reshape(squared.shape), depth)

    def scores(self, indices: NDArray[np.int64], squared: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return what predictions [Q,crops,K] are ordered by, ascending, given their squared distances."""
        return squared


def nearest_distinct(
    indices: NDArray[np.int64], scores: NDArray[np.float64], distances: NDArray[np.float32], depth: int
) -> Predictions:
    """Keep the `depth` best different images of each row of [Q,M], by score; equal scores stay in order."""
    order = np.argsort(scores, axis=1, kind="stable")
    ranked = np.take_along_axis(indices, order, axis=1)
    # The first of each image in this order: after a stable sort by image, the one that differs from its left neighbour.
    by_image = np.argsort(ranked, axis=1, kind="stable")
    grouped = np.take_along_axis(ranked, by_image, axis=1)
    first = np.ones(grouped.shape, dtype=np.bool_)
    first[:, 1:] = grouped[:, 1:] != grouped[:, :-1]
    again = np.empty_like(first)
    np.put_along_axis(again, by_image, ~first, axis=1)
    # Each list alone holds `depth` different images, so repeated ones never reach the kept part.
    kept = np.take_along_axis(order, np.argsort(again, axis=1, kind="stable")[:, :depth], axis=1)
    return Predictions(np.take_along_axis(indices, kept, axis=1), np.take_along_axis(distances, kept, axis=1))
