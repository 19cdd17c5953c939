"""Dense local features of a map at four times its resolution, by which two-stage methods re-rank."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vgbench.models.layers import l2_normalise

HIDDEN, DIMENSIONS = 256, 128


class LocalBranch(nn.Module):
    """[B,C,h,w] to unit local features float32 [B,128,4h-3,4w-3] (SelaVPR: Lu et al., 2024; FoL: Wang et al., 2025)."""

    def __init__(self, in_channels: int) -> None:
        super().__init__()
        self.upconv1 = nn.ConvTranspose2d(in_channels, HIDDEN, 3, stride=2, padding=1)
        self.upconv2 = nn.ConvTranspose2d(HIDDEN, DIMENSIONS, 3, stride=2, padding=1)

    def forward(self, features: Tensor) -> Tensor:
        return l2_normalise(self.upconv2(F.relu(self.upconv1(features))))


def cell_positions(height: int, width: int) -> Tensor:
    """Return where the local features [4h-3,4w-3] of a map [h,w] lie, x and y as shares of the image, float32 [T,2].

    Every fourth lies at the centre of a cell of the map, the first at that of the first.
    """
    y = (torch.arange(4 * height - 3) / 4 + 0.5) / height
    x = (torch.arange(4 * width - 3) / 4 + 0.5) / width
    return torch.stack([x.repeat(len(y)), y.repeat_interleave(len(x))], dim=1)
