"""Clusters of coordinates against scikit-learn and SciPy."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.cluster.hierarchy import fcluster, linkage
from sklearn.cluster import DBSCAN

from vgbench.retrieval.rerank.spatial import squared_distances
from vgbench.retrieval.rerank.spatial_clusters import MIN_SAMPLES, agglomerative, dbscan, neighbourhoods

SEEDS = st.integers(0, 10_000)


def points(seed: int, count: int = 12, queries: int = 5) -> np.ndarray:
    return np.random.default_rng(seed).uniform(0, 130, (queries, count, 2))


def same_partition(labels: np.ndarray, others: np.ndarray) -> bool:
    return bool(((labels[:, None] == labels) == (others[:, None] == others)).all())


@given(SEEDS, st.integers(1, 14))
@settings(max_examples=60, deadline=None)
def test_dbscan_is_scikit_learns(seed: int, count: int) -> None:
    utm = points(seed, count)
    labels, sizes = dbscan(squared_distances(utm), 25.0)
    for query, candidates in enumerate(utm):
        wanted = DBSCAN(eps=25.0, min_samples=MIN_SAMPLES).fit(candidates).labels_
        noise = wanted < 0
        wanted[noise] = 100 + np.arange(noise.sum())
        assert same_partition(labels[query], wanted)
        assert sizes[query].tolist() == [int((wanted == label).sum()) for label in wanted]


@given(SEEDS, st.integers(2, 14))
@settings(max_examples=60, deadline=None)
def test_agglomerative_is_scipys_complete_linkage(seed: int, count: int) -> None:
    utm = points(seed, count)
    labels, sizes = agglomerative(squared_distances(utm), 40.0)
    for query, candidates in enumerate(utm):
        wanted = fcluster(linkage(candidates, "complete"), 40.0, "distance")
        assert same_partition(labels[query], wanted)
        assert sizes[query].tolist() == [int((wanted == label).sum()) for label in wanted]


@given(SEEDS)
@settings(max_examples=30, deadline=None)
def test_neighbourhoods_count_who_is_near(seed: int) -> None:
    utm = points(seed)
    labels, sizes = neighbourhoods(squared_distances(utm), 25.0)
    for query, candidates in enumerate(utm):
        near = np.linalg.norm(candidates[:, None] - candidates, axis=2) <= 25
        assert sizes[query].tolist() == near.sum(1).tolist()
        free = set(range(len(candidates)))
        while free:  # the one with most neighbours takes those that are free
            leader = min(free, key=lambda i: (-near[i].sum(), i))
            members = {i for i in free if near[leader, i]}
            assert {int(labels[query, i]) for i in members} == {leader}
            free -= members
