"""Generalised-mean pooling (Radenovic, Tolias and Chum, 2018)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vgbench.errors import UserError
from vgbench.models.base import Aggregation
from vgbench.models.layers import full_precision


class GeM(Aggregation):
    """`mean(x^p)^(1/p)` over the positions of each channel; [B,C,H,W] (or tokens [B,N,C]) to [B,C] float32.

    p = 1 is the average, p -> infinity the maximum; it is learned, from 3. With a grid (the finest level of the spatial
    pyramid of Lazebnik, Schmid and Ponce, 2006), each of its cells is pooled by itself: [B,C*G*G].
    """

    places_l2 = True
    takes = ("map", "tokens")

    def __init__(
        self, in_channels: int, *, p: float = 3.0, eps: float = 1e-6, tokens: bool = False, gem_grid: int = 1
    ) -> None:
        """`p`: where the exponent starts. `eps`: responses below it count as it, since powers need positive numbers.

        `tokens`: the input is a sequence, not a map. `gem_grid`: G, cells a side.

        Raises:
            UserError: a grid over tokens.
        """
        super().__init__()
        if tokens and gem_grid > 1:
            raise UserError(f"--gem_grid {gem_grid}: tokens have no rows and columns. Expected a CNN backbone, or 1")
        self.p = nn.Parameter(torch.ones(1) * p)
        self.eps = eps
        self.positions = (1,) if tokens else (2, 3)
        self.grid = gem_grid
        self.descriptors_dim = in_channels * gem_grid**2

    def forward(self, features: Tensor) -> Tensor:
        with full_precision(features):
            powers = features.float().clamp(min=self.eps).pow(self.p)
            if self.grid > 1:
                return F.adaptive_avg_pool2d(powers, self.grid).flatten(1).pow(1.0 / self.p)
            return powers.mean(dim=self.positions).pow(1.0 / self.p)
