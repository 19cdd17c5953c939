"""Random numbers a pixel, the same on every device: cut out of one fixed tile at offsets drawn for each image."""

from __future__ import annotations

import functools

import torch
import torch.nn.functional as F
from torch import Generator, Tensor

TILE = 1024  # pixels a side; a larger image meets the tile again
_SEED = 20200613


def draw_offsets(count: int, layers: int, generator: Generator) -> Tensor:
    """Draw where in the tile each image's layers start: int64 [count,layers,2], row and column."""
    return torch.randint(TILE, (count, layers, 2), generator=generator)


def normal_noise(offsets: Tensor, height: int, width: int, device: torch.device, *, coarse: bool = False) -> Tensor:
    """Return noise of mean 0 and variance 1, float32 [B,L,height,width], for offsets [B,L,2] of `draw_offsets`.

    Neighbouring pixels are independent, or with `coarse` alike over about 3 pixels, as after a camera's denoising.
    """
    return _cut(_normal_tile(device, coarse), offsets, height, width)


def uniform_noise(offsets: Tensor, height: int, width: int, device: torch.device) -> Tensor:
    """Return uniform noise in 0..1, float32 [B,L,height,width], for offsets [B,L,2] of `draw_offsets`."""
    return _cut(_uniform_tile(device), offsets, height, width)


def _cut(tile: Tensor, offsets: Tensor, height: int, width: int) -> Tensor:
    offsets = offsets.to(tile.device)
    rows = (offsets[..., 0, None] + torch.arange(height, device=tile.device)) % TILE
    columns = (offsets[..., 1, None] + torch.arange(width, device=tile.device)) % TILE
    return tile[rows[..., :, None], columns[..., None, :]]


@functools.lru_cache(maxsize=4)
def _normal_tile(device: torch.device, coarse: bool) -> Tensor:
    tile = torch.randn(TILE, TILE, generator=torch.Generator().manual_seed(_SEED))
    if coarse:
        tile = F.avg_pool2d(F.pad(tile[None, None], (1, 1, 1, 1), mode="circular"), 3, 1)[0, 0]
    return ((tile - tile.mean()) / tile.std()).to(device)


@functools.lru_cache(maxsize=2)
def _uniform_tile(device: torch.device) -> Tensor:
    return torch.rand(TILE, TILE, generator=torch.Generator().manual_seed(_SEED + 1)).to(device)
