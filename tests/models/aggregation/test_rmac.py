"""R-MAC: where its regions lie, and their sum."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from vgbench.models import build_aggregation
from vgbench.models.aggregation.rmac import OVERLAP, regions


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 30), st.integers(1, 30), st.integers(1, 4))
def test_rmac_regions_lie_in_the_map_and_reach_its_edges(height: int, width: int, scales: int) -> None:
    squares = regions(height, width, scales)
    assert squares == sorted(squares, key=lambda square: -square[2])
    assert sorted(regions(width, height, scales)) == sorted((left, top, side) for top, left, side in squares)
    for top, left, side in squares:
        assert 0 <= top <= height - side and 0 <= left <= width - side and side >= 1
    first = [square for square in squares if square[2] == min(height, width)]
    assert {(top, left) for top, left, _ in first} >= {(0, 0)}
    assert max(top + side for top, _, side in first) == height or len(first) == 1
    assert max(left + side for _, left, side in first) == width or len(first) == 1


def test_rmac_regions_of_a_landscape_overlap_as_published() -> None:
    starts = [left for _, left, side in regions(30, 40, 1)]
    overlap = 1 - (starts[1] - starts[0]) / 30
    assert len(starts) == 2 and abs(overlap - OVERLAP) <= abs(1 - 5 / 30 - OVERLAP)
    assert [len([s for s in regions(30, 40, 3) if s[2] == side]) for side in (30, 20, 15)] == [2, 6, 12]


def test_rmac_is_the_sum_of_its_regions() -> None:
    features = torch.randn(2, 5, 6, 9)
    expected = F.normalize(features.amax(dim=(2, 3)), dim=1)
    for top, left, side in regions(6, 9, 3):
        expected = expected + F.normalize(features[:, :, top : top + side, left : left + side].amax(dim=(2, 3)), dim=1)
    torch.testing.assert_close(build_aggregation("rmac", 5, l2="none")(features), expected, atol=1e-4, rtol=1e-4)
