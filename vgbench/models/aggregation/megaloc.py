"""MegaLoc's head (Berton and Masone, 2025): SALAD and a projection."""

from __future__ import annotations

from torch import Tensor, nn

from vgbench.models.aggregation.salad import SALAD
from vgbench.models.base import Aggregation
from vgbench.models.layers import l2_normalise


class MegaLoc(Aggregation):
    """(map [B,C,H,W], token [B,C]) to [B,feat_dim], L2-normalised."""

    takes = "map+token"

    def __init__(
        self,
        in_channels: int,
        *,
        feat_dim: int = 8448,
        num_clusters: int = 64,
        cluster_dim: int = 256,
        token_dim: int = 256,
        mlp_dim: int = 512,
        dropout: float = 0.3,
    ) -> None:
        """Defaults are the published network's; `feat_dim` is the projection's output, the others are SALAD's."""
        super().__init__()
        self.agg = SALAD(
            in_channels,
            num_clusters=num_clusters,
            cluster_dim=cluster_dim,
            token_dim=token_dim,
            mlp_dim=mlp_dim,
            dropout=dropout,
        )
        self.linear = nn.Linear(self.agg.descriptors_dim, feat_dim)
        self.descriptors_dim = feat_dim

    def forward(self, inputs: tuple[Tensor, Tensor]) -> Tensor:
        return l2_normalise(self.linear(self.agg(inputs)))
