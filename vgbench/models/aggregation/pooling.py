"""Average and maximum pooling: SPoC (Babenko and Lempitsky, 2015) and MAC (Razavian et al., 2016)."""

from __future__ import annotations

from torch import Tensor

from vgbench.models.base import Aggregation
from vgbench.models.layers import full_precision


class SPoC(Aggregation):
    """The mean of each channel; [B,C,H,W] to [B,C] float32."""

    places_l2 = True

    def __init__(self, in_channels: int) -> None:
        super().__init__()
        self.descriptors_dim = in_channels

    def forward(self, features: Tensor) -> Tensor:
        with full_precision(features):
            return features.float().mean(dim=(2, 3))


class MAC(Aggregation):
    """The largest response of each channel; [B,C,H,W] to [B,C] float32."""

    places_l2 = True

    def __init__(self, in_channels: int) -> None:
        super().__init__()
        self.descriptors_dim = in_channels

    def forward(self, features: Tensor) -> Tensor:
        return features.amax(dim=(2, 3)).float()
