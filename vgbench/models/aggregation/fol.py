"""FoL (Wang et al., 2025): SALAD whose dustbin takes what the class token does not look at, and local features."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vgbench.errors import UserError
from vgbench.models.aggregation.local_branch import DIMENSIONS, HIDDEN
from vgbench.models.aggregation.salad import SINKHORN_ITERATIONS, pointwise_mlp, transport
from vgbench.models.base import Aggregation
from vgbench.models.layers import full_precision, l2_normalise

# Attention below this counts as none.
FAINTEST = 0.01


class FoL(Aggregation):
    """(map [B,C,h,w], token [B,C], attention [B,hw]) to [B,token_dim + cluster_dim*num_clusters], L2-normalised."""

    takes = "map+token+attention"

    def __init__(
        self,
        in_channels: int,
        *,
        num_clusters: int = 64,
        cluster_dim: int = 128,
        token_dim: int = 256,
        mlp_dim: int = 512,
        dropout: float = 0.3,
    ) -> None:
        """Defaults are the paper's, as SALAD's; `mlp_dim` is the width of the three small MLPs."""
        super().__init__()
        self.num_clusters = num_clusters
        self.token_features = nn.Sequential(nn.Linear(in_channels, mlp_dim), nn.ReLU(), nn.Linear(mlp_dim, token_dim))
        self.cluster_features = pointwise_mlp(in_channels, mlp_dim, cluster_dim, dropout)
        self.score = pointwise_mlp(in_channels, mlp_dim, num_clusters, dropout)
        self.upconv = nn.ConvTranspose2d(in_channels, HIDDEN, 3, stride=2, padding=1)
        self.upconv2 = nn.ConvTranspose2d(HIDDEN, DIMENSIONS, 3, stride=2, padding=1)
        self.descriptors_dim = token_dim + cluster_dim * num_clusters

    def forward(self, inputs: tuple[Tensor, Tensor, Tensor]) -> Tensor:
        """Return descriptors [B,D]; raises UserError for a map with no more cells than clusters."""
        features, token, _ = inputs
        values = self.cluster_features(features).flatten(2)  # [B,L,P]
        token = self.token_features(token)
        with full_precision(features):
            clusters = torch.matmul(values.float(), self.shares(inputs).transpose(1, 2))  # [B,L,K]
            parts = [l2_normalise(token), F.normalize(clusters, dim=1).flatten(1)]
            return l2_normalise(torch.cat(parts, dim=1))

    def shares(self, inputs: tuple[Tensor, Tensor, Tensor]) -> Tensor:
        """Return the share float32 [B,K,P] of each local feature that goes to each cluster."""
        features, _, attention = inputs
        scores = self.score(features).flatten(2)
        if scores.shape[2] <= self.num_clusters:
            raise UserError(
                f"--aggregation fol: {scores.shape[2]} local features for {self.num_clusters} clusters. "
                "Expected more features than clusters; use a larger --resize"
            )
        seen = torch.where(attention >= FAINTEST, attention, 0).float()
        with full_precision(features):
            return transport(scores.float(), (1 - seen).unsqueeze(1), SINKHORN_ITERATIONS)

    def local_features(self, features: Tensor) -> Tensor:
        """Return unit local features float32 [B,128,4h-3,4w-3] of a map [B,C,h,w]."""
        return l2_normalise(self.upconv2(F.relu(self.upconv(features))))
