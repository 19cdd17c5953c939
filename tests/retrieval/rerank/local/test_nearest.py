"""Mutual nearest neighbours against brute force."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from vgbench.retrieval.rerank.local.features import LocalFeatures
from vgbench.retrieval.rerank.local.nearest import NearestMatcher
from vgbench.runtime import Runtime

SEEDS = st.integers(0, 10_000)


def random_features(generator: np.random.Generator, count: int, binary: bool = False) -> LocalFeatures:
    keypoints = generator.uniform(0, 100, (count, 2)).astype(np.float32)
    if binary:
        return LocalFeatures(keypoints, generator.integers(0, 256, (count, 4)).astype(np.uint8), (100, 100))
    vectors = generator.normal(size=(count, 5)).astype(np.float32)
    return LocalFeatures(keypoints, vectors / np.linalg.norm(vectors, axis=1, keepdims=True), (100, 100))


def brute_force(query: LocalFeatures, candidate: LocalFeatures, ratio: float) -> set[tuple[int, int]]:
    if not len(query) or not len(candidate):
        return set()
    apart = np.linalg.norm(query.vectors()[:, None].astype(np.float64) - candidate.vectors(), axis=2)
    found = set()
    for i, row in enumerate(apart):
        j = int(row.argmin())
        if apart[:, j].argmin() != i:
            continue
        others = np.delete(row, j)
        if len(others) == 0 or ratio == 1 or row[j] <= ratio * others.min():
            found.add((i, j))
    return found


@given(SEEDS, st.integers(0, 12), st.lists(st.integers(0, 12), max_size=4), st.sampled_from([1.0, 0.8]))
@settings(max_examples=60, deadline=None)
def test_mutual_matches_on_both_paths(seed: int, count: int, counts: list[int], ratio: float) -> None:
    generator = np.random.default_rng(seed)
    query = random_features(generator, count)
    candidates = [random_features(generator, c) for c in counts]
    wanted = [brute_force(query, one, ratio) for one in candidates]
    matcher = NearestMatcher(ratio, Runtime())
    with ThreadPoolExecutor(1) as pool:
        found = matcher(query, candidates, pool)
    for pairs in (found, matcher._batched(query, candidates)):
        assert [{tuple(pair) for pair in one.tolist()} for one in pairs] == wanted


def test_products_of_bits_order_as_hamming_distances() -> None:
    generator = np.random.default_rng(0)
    left, right = random_features(generator, 6, binary=True), random_features(generator, 7, binary=True)
    hamming = np.unpackbits(left.descriptors[:, None] ^ right.descriptors[None], axis=2).sum(2)
    np.testing.assert_allclose(left.vectors() @ right.vectors().T, 1 - hamming / 16, atol=1e-6)
