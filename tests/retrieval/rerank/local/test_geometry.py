"""Inliers of known homographies, and of matches that fit none."""

from __future__ import annotations

import numpy as np
import pytest
from textured import homography

from vgbench.retrieval.rerank.local.geometry import inliers


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
