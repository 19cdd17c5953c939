"""Generalised-mean pooling (Radenovic, Tolias and Chum, 2018)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from vgbench.models.layers import full_precision


class GeM(nn.Module):
    """`mean(x^p)^(1/p)` over the positions of each channel; [B,C,H,W] (or tokens [B,N,C]) to [B,C] float32.

    p = 1 is the average, p -> infinity the maximum; it is learned, from 3.
    """

    places_l2 = True
    takes = ("map", "tokens")

    def __init__(self, in_channels: int, *, p: float = 3.0, eps: float = 1e-6, tokens: bool = False) -> None:
        """`p`: where the exponent starts. `eps`: responses below it count as it, since powers need positive numbers.

        `tokens`: the input is a sequence, not a map.
        """
        super().__init__()
        self.p = nn.Parameter(torch.ones(1) * p)
        self.eps = eps
        self.positions = (1,) if tokens else (2, 3)
        self.descriptors_dim = in_channels

    def forward(self, features: Tensor) -> Tensor:
        with full_precision(features):
            powers = features.float().clamp(min=self.eps).pow(self.p)
            return powers.mean(dim=self.positions).pow(1.0 / self.p)
