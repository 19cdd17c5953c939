"""SelaVPR++ (Lu et al., 2025): GeM between two projections, to floating-point descriptors or to codes of signs."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from vgbench.models.aggregation.gem import GeM
from vgbench.models.base import Aggregation
from vgbench.models.layers import l2_normalise


class SelaVPRpp(Aggregation):
    """[B,C,h,w] to [B,feat_dim]: L2-normalised, or each value -1 or 1 with `hashing`."""

    def __init__(self, in_channels: int, *, feat_dim: int | None = None, hashing: bool = False) -> None:
        """Build it.

        Args:
            in_channels: C.
            feat_dim: of the descriptor; None: 512 with `hashing`, else the paper's, 2048 for up to 768 channels and
                4096 for more.
            hashing: give the signs of the descriptor. Their gradient goes through as if they were the values, as the
                paper's do.
        """
        super().__init__()
        self.linear1 = nn.Linear(in_channels, in_channels)
        self.gem = GeM(in_channels)
        self.descriptors_dim = feat_dim or (512 if hashing else 2048 if in_channels <= 768 else 4096)
        self.linear2 = nn.Linear(in_channels, self.descriptors_dim)
        self.hashing = hashing

    def forward(self, features: Tensor) -> Tensor:
        projected = self.linear1(features.flatten(2).transpose(1, 2)).transpose(1, 2).unflatten(2, features.shape[2:])
        descriptors = l2_normalise(self.linear2(self.gem(l2_normalise(projected))))
        if not self.hashing:
            return descriptors
        signs = torch.where(descriptors >= 0, 1.0, -1.0)
        return descriptors + (signs - descriptors).detach() if self.training else signs
