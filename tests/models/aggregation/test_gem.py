"""GeM: its limits, its grid, and tokens."""

from __future__ import annotations

import pytest
import torch

from vgbench.errors import UserError
from vgbench.models import build_aggregation


def test_gem_of_a_grid_is_gem_of_its_cells() -> None:
    features = torch.rand(2, 3, 4, 6, generator=torch.Generator().manual_seed(0))
    gem, grid = build_aggregation("gem", 3, l2="none"), build_aggregation("gem", 3, l2="none", gem_grid=2)
    cells = [gem(features[:, :, y : y + 2, x : x + 3]) for y in (0, 2) for x in (0, 3)]
    expected = torch.stack(cells, dim=2).flatten(1)  # a channel's cells in a row
    torch.testing.assert_close(grid(features), expected)
    assert grid.descriptors_dim == 12
    with pytest.raises(UserError, match="--gem_grid 2: tokens have no rows"):
        build_aggregation("gem", 3, gem_grid=2, tokens=True)


def test_gem_goes_from_the_mean_to_the_maximum() -> None:
    features = torch.rand(2, 4, 5, 6) + 0.1
    for p, expected in ((1.0, features.mean(dim=(2, 3))), (80.0, features.amax(dim=(2, 3)))):
        pooled = build_aggregation("gem", 4, l2="none", p=p)(features)
        torch.testing.assert_close(pooled, expected, atol=0.06 if p > 1 else 1e-6, rtol=0)


@pytest.mark.parametrize("l2", ["before_pool", "after_pool", "none"])
def test_gem_of_tokens_is_gem_of_the_map(l2: str) -> None:
    features = torch.rand(2, 4, 5, 6)
    of_map = build_aggregation("gem", 4, l2=l2)(features)
    of_tokens = build_aggregation("gem", 4, l2=l2, tokens=True)(features.flatten(2).transpose(1, 2))
    torch.testing.assert_close(of_tokens, of_map)
