"""Residual retrieval module (Kordopatis-Zilos et al., 2021): an average-pooled descriptor, refined by a small MLP."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from vgbench.models.base import Aggregation
from vgbench.models.layers import l2_normalise


class RRM(Aggregation):
    """[B,C,H,W] to [B,C], L2-normalised."""

    def __init__(self, in_channels: int) -> None:
        super().__init__()
        self.ln1 = nn.LayerNorm(in_channels)
        self.fc1 = nn.Linear(in_channels, in_channels)
        self.fc2 = nn.Linear(in_channels, in_channels)
        self.ln2 = nn.LayerNorm(in_channels)
        self.descriptors_dim = in_channels

    def forward(self, features: Tensor) -> Tensor:
        x = self.ln1(features.float().mean(dim=(2, 3)))
        return l2_normalise(self.ln2(x + self.fc2(F.relu(self.fc1(x)))))
