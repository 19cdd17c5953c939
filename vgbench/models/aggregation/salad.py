"""SALAD (Izquierdo and Civera, 2024): local features matched to clusters by optimal transport, with a dustbin."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vgbench.errors import UserError
from vgbench.models.base import Aggregation
from vgbench.models.layers import full_precision, l2_normalise

SINKHORN_ITERATIONS = 3


class SALAD(Aggregation):
    """(map [B,C,H,W], token [B,C]) to [B,token_dim + cluster_dim*num_clusters], L2-normalised."""

    takes: str | tuple[str, ...] = "map+token"
    name = "salad"

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
        """Defaults are the paper's for DINOv2-B (768 channels); `mlp_dim` is the width of the three small MLPs."""
        super().__init__()
        self.num_clusters = num_clusters
        self.token_features = nn.Sequential(nn.Linear(in_channels, mlp_dim), nn.ReLU(), nn.Linear(mlp_dim, token_dim))
        self.cluster_features = pointwise_mlp(in_channels, mlp_dim, cluster_dim, dropout)
        self.score = pointwise_mlp(in_channels, mlp_dim, num_clusters, dropout)
        self.add_own(in_channels)
        self.descriptors_dim = token_dim + cluster_dim * num_clusters

    def forward(self, inputs: tuple[Tensor, ...]) -> Tensor:
        """Return descriptors [B,D] of a map [B,C,h,w] and a token [B,C]; raises UserError for too small a map."""
        features, token = inputs[:2]
        values = self.cluster_features(features).flatten(2)  # [B,L,P]
        shares = self.shares(inputs)
        token = self.token_features(token)
        with full_precision(features):
            clusters = torch.matmul(values.float(), shares.transpose(1, 2))  # [B,L,K]
            parts = [l2_normalise(token), F.normalize(clusters, dim=1).flatten(1)]
            return l2_normalise(torch.cat(parts, dim=1))

    def shares(self, inputs: tuple[Tensor, ...]) -> Tensor:
        """Return the share float32 [B,K,P] of each local feature that goes to each cluster."""
        features = inputs[0]
        scores = self.score(features).flatten(2)  # [B,K,P]
        if scores.shape[2] <= self.num_clusters:
            raise UserError(
                f"--aggregation {self.name}: {scores.shape[2]} local features for {self.num_clusters} clusters. "
                "Expected more features than clusters; use a larger --resize"
            )
        with full_precision(features):
            return transport(scores.float(), self.dust_bin_scores(inputs), SINKHORN_ITERATIONS)

    def add_own(self, in_channels: int) -> None:
        """Make what the dustbin's score comes from, and whatever else is not common to this network's kind."""
        self.dust_bin = nn.Parameter(torch.tensor(1.0))

    def dust_bin_scores(self, inputs: tuple[Tensor, ...]) -> Tensor:
        """Return the dustbin's score, float32: one, or one for each local feature [B,1,P]."""
        return self.dust_bin.float()


def transport(scores: Tensor, dust_bin: Tensor, iterations: int) -> Tensor:
    """Return the share [B,K,P] of each local feature that goes to each cluster (Sinkhorn and Knopp, 1967; log space).

    Clusters take one feature's mass each and the dustbin, whose score is `dust_bin`, what is left of P.

    Args:
        scores: float32 [B,K,P], K < P.
        dust_bin: one number, or one for each local feature [B,1,P].
    """
    batch, clusters, positions = scores.shape
    scores = torch.cat([scores, dust_bin.expand(batch, 1, positions)], dim=1)
    # Masses in units of one feature's: features and clusters 1 each, the dustbin P - K, so that both sides have P.
    log_rows = scores.new_zeros(clusters + 1)
    log_rows[-1] = math.log(positions - clusters)
    across = scores.new_zeros(batch, 1, positions)
    down = scores.new_zeros(batch, clusters + 1, 1)
    for _ in range(iterations):
        down = log_rows.view(1, -1, 1) - torch.logsumexp(scores + across, dim=2, keepdim=True)
        across = -torch.logsumexp(scores + down, dim=1, keepdim=True)
    return (scores + down + across)[:, :-1].exp()


def pointwise_mlp(inputs: int, hidden: int, outputs: int, dropout: float) -> nn.Sequential:
    """Return two layers over each cell of a map: [B,inputs,h,w] to [B,outputs,h,w]."""
    return nn.Sequential(nn.Conv2d(inputs, hidden, 1), nn.Dropout(dropout), nn.ReLU(), nn.Conv2d(hidden, outputs, 1))
