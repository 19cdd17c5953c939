"""CosPlace's head (Berton, Masone and Caputo, 2022): normalise, GeM, project, normalise."""

from __future__ import annotations

from torch import Tensor, nn

from vgbench.models.aggregation.gem import GeM
from vgbench.models.base import Aggregation
from vgbench.models.layers import l2_normalise


class CosPlace(Aggregation):
    """[B,C,H,W] to [B,out_dim], L2-normalised."""

    def __init__(self, in_channels: int, *, out_dim: int = 512) -> None:
        """`out_dim`: from 32 to 2048 in the paper, 512 by default."""
        super().__init__()
        self.gem = GeM(in_channels)
        self.fc = nn.Linear(in_channels, out_dim)
        self.descriptors_dim = out_dim

    def forward(self, features: Tensor) -> Tensor:
        return l2_normalise(self.fc(self.gem(l2_normalise(features))))
