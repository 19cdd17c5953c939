"""Conv-GeM: a 1x1 convolution as in Conv-AP (Ali-bey et al., 2022), GeM (Radenovic et al., 2018), and a projection."""

from __future__ import annotations

from torch import Tensor, nn

from vgbench.models.aggregation.gem import GeM
from vgbench.models.base import Aggregation
from vgbench.models.layers import l2_normalise


class ConvGeM(Aggregation):
    """[B,C,H,W] to [B,out_channels], L2-normalised."""

    def __init__(self, in_channels: int, *, out_channels: int = 512) -> None:
        super().__init__()
        self.channel_pool = nn.Conv2d(in_channels, out_channels, kernel_size=1)
        self.gem = GeM(out_channels)
        self.fc = nn.Linear(out_channels, out_channels)
        self.descriptors_dim = out_channels

    def forward(self, features: Tensor) -> Tensor:
        return l2_normalise(self.fc(self.gem(self.channel_pool(features))))
