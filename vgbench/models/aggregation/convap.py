"""Conv-AP (Ali-bey, Chaib-draa and Giguere, 2022): fewer channels, averaged over a coarse grid."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from vgbench.models.base import Aggregation
from vgbench.models.layers import l2_normalise


class ConvAP(Aggregation):
    """[B,C,H,W] to [B,out_channels*s1*s2], L2-normalised."""

    def __init__(self, in_channels: int, *, out_channels: int = 512, s1: int = 2, s2: int = 2) -> None:
        """`out_channels`: 2048, 1024, 512 or 128 in the paper, on `s1` x `s2` cells of the map (2 x 2)."""
        super().__init__()
        self.channel_pool = nn.Conv2d(in_channels, out_channels, kernel_size=1)
        self.grid = (s1, s2)
        self.descriptors_dim = out_channels * s1 * s2

    def forward(self, features: Tensor) -> Tensor:
        cells = F.adaptive_avg_pool2d(self.channel_pool(features), self.grid)
        return l2_normalise(cells.flatten(1))
