"""Clusters of coordinates against scikit-learn and SciPy, and the orders made of them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from vgbench.retrieval import Predictions
from vgbench.retrieval.rerank.spatial import SpatialReranker, spatial_order, squared_distances
from vgbench.retrieval.rerank.spatial_clusters import agglomerative, dbscan, neighbourhoods


def test_a_lone_candidate_and_one_at_the_same_place() -> None:
    utm = np.array([[[0.0, 0.0], [500.0, 0.0], [0.0, 0.0]]])
    for method in (neighbourhoods, dbscan, agglomerative):
        _, sizes = method(squared_distances(utm), 25.0)
        assert sizes[0, 1] == 1
        # Two are fewer than dbscan's MIN_SAMPLES.
        assert sizes[0, [0, 2]].tolist() == ([1, 1] if method is dbscan else [2, 2])


# Positions:      0  1  2  3  4  5
LABELS = np.array([[0, 1, 2, 1, 2, 5]])


SIZES = np.array([[1, 2, 2, 2, 2, 1]])


@pytest.mark.parametrize(
    ("rule", "wanted"),
    [
        ("size", [1, 3, 2, 4, 0, 5]),
        ("distance", [1, 2, 3, 4, 0, 5]),
        ("representative", [1, 2, 0, 5, 3, 4]),
        ("representative_distance", [0, 1, 2, 5, 3, 4]),
    ],
)
def test_the_four_orders(rule: str, wanted: list[int]) -> None:
    assert spatial_order(LABELS, SIZES, rule)[0].tolist() == wanted


@pytest.mark.parametrize("cluster", ["radius", "dbscan", "agglomerative"])
def test_rerank_moves_the_first_only_and_keeps_distances_in_order(
    make_context: Callable[..., Any], found: Callable[..., Predictions], cluster: str
) -> None:
    context = make_context(rerank=("spatial",), rerank_topk=10, spatial_cluster=cluster, spatial_radius=40.0)
    before = found(context, 15)
    after = SpatialReranker()(before, context).predictions
    np.testing.assert_array_equal(after.indices[:, 10:], before.indices[:, 10:])
    assert not np.array_equal(after.indices, before.indices)
    np.testing.assert_array_equal(np.sort(after.indices, axis=1), np.sort(before.indices, axis=1))
    assert (np.diff(after.distances, axis=1) >= 0).all()
    # The first one's distance is its own.
    own = np.take_along_axis(before.distances, (before.indices == after.indices[:, :1]).argmax(1)[:, None], 1)
    np.testing.assert_array_equal(after.distances[:, :1], own)
