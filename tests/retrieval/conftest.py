"""A tiny network and image folders for the tests of this package."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

from vgbench.data import ImageName, Split, format_name, read_split
from vgbench.models.network import Network


class Corners(nn.Module):
    """A backbone: mean colours of a coarse grid."""

    out_channels = 3
    kind = "map"

    def forward(self, images: Tensor) -> Tensor:
        return nn.functional.adaptive_avg_pool2d(images, 2)


class Mix(nn.Module):
    """An aggregation: a linear layer, with a dropout that shows whether extraction runs in eval mode."""

    def __init__(self, dim: int, seed: int) -> None:
        super().__init__()
        self.descriptors_dim = dim
        self.linear = nn.Linear(12, dim)
        generator = torch.Generator().manual_seed(seed)
        nn.init.normal_(self.linear.weight, generator=generator)
        nn.init.zeros_(self.linear.bias)
        self.drop = nn.Dropout(0.5)

    def forward(self, features: Tensor) -> Tensor:
        return nn.functional.normalize(self.drop(self.linear(features.flatten(1))), dim=1)


def tiny_network(dim: int = 6, seed: int = 0) -> Network:
    """Return a network with always the same weights."""
    return Network(Corners(), Mix(dim, seed), {"dim": dim})


@pytest.fixture
def make_network() -> Callable[..., Network]:
    """Return a function (dim=6, seed=0) -> a network with always the same weights."""
    return tiny_network


@pytest.fixture
def city(tmp_path: Path) -> Path:
    """A dataset with a test split: place i is 100 m east of place i-1; query i looks like place i, 3 m away."""
    root = tmp_path / "tiny_city"
    for folder, count, shift in (("database", 11, 0.0), ("queries", 4, 3.0)):
        for place in range(count):
            name = ImageName(utm_east=500_000 + 100.0 * place + shift, utm_north=4_000_000.0, extension=".png")
            path = root / "images" / "test" / folder / format_name(name)
            path.parent.mkdir(parents=True, exist_ok=True)
            pixels = np.random.default_rng(place).integers(0, 256, (2, 2, 3), dtype=np.uint8)
            Image.fromarray(pixels).resize((40, 30), Image.Resampling.NEAREST).save(path)
    return root


@pytest.fixture
def split(city: Path) -> Split:
    return read_split(city, "test")
