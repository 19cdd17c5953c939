"""NetVLAD (Arandjelovic et al., 2016): residuals to soft-assigned cluster centres, summed over the image."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vgbench.errors import UserError
from vgbench.models.base import Aggregation
from vgbench.models.layers import full_precision, l2_normalise

# The second-best cluster of an average local feature gets this share of the best one's assignment at the start.
INITIAL_RATIO = 0.01


class SoftlyAssigned(Aggregation):
    """Sums local features, clustered by what a 1x1 convolution `conv` says; `initialise_netvlad` fits it."""

    conv: nn.Conv1d | nn.Conv2d

    def fit(self, samples: Tensor) -> Tensor:
        """Return unit features `samples` [S,C] as they are clustered, learning from them how where that is learned."""
        return samples

    @torch.no_grad()
    def set_clusters(self, centroids: Tensor, samples: Tensor) -> None:
        """Fit the assignment to clusters around `centroids` [K,C] and unit features `samples` [S,C].

        The sharpness makes the average ratio of the two largest assignments INITIAL_RATIO (Arandjelovic et al., 2016).
        """
        directions = F.normalize(centroids.float(), dim=1)
        best = (samples.float() @ directions.T).topk(min(2, len(directions)), dim=1).values
        gap = (best[:, 0] - best[:, -1]).mean().clamp(min=1e-6)
        alpha = -math.log(INITIAL_RATIO) / gap
        self.conv.weight.copy_((alpha * directions).reshape(self.conv.weight.shape))


class NetVLAD(SoftlyAssigned):
    """[B,C,H,W] (or tokens [B,N,C]) to [B,K*C], cluster by cluster, L2-normalised; float32.

    Attributes:
        normalised: whether the sums of residuals are normalised; SeqVLAD adds those of several images first.
    """

    normalised = True
    takes: str | tuple[str, ...] = ("map", "tokens")

    def __init__(self, in_channels: int, *, netvlad_clusters: int = 64, tokens: bool = False) -> None:
        """`netvlad_clusters`: the published networks have 64. `tokens`: the input is a sequence, not a map.

        Clusters start random; `initialise_netvlad` puts them where the local features are. Raises UserError for fewer
        than one cluster.
        """
        if netvlad_clusters < 1:
            raise UserError(f"--netvlad_clusters {netvlad_clusters}: not a number of clusters. Expected 1 or more")
        super().__init__()
        self.tokens = tokens
        self.descriptors_dim = netvlad_clusters * in_channels
        convolution = nn.Conv1d if tokens else nn.Conv2d
        self.conv = convolution(in_channels, netvlad_clusters, kernel_size=1, bias=False)
        self.centroids = nn.Parameter(torch.rand(netvlad_clusters, in_channels))

    def forward(self, features: Tensor) -> Tensor:
        # Positions last, as a sequence of P local features: [B,C,P].
        x = features.transpose(1, 2) if self.tokens else features.flatten(2)
        with full_precision(x):
            x = l2_normalise(x)
            weights = self.conv.weight.flatten(1)
            return self.aggregate(x, torch.matmul(weights, x).softmax(dim=1))

    def aggregate(self, x: Tensor, assignment: Tensor) -> Tensor:
        """Sum the residuals: local features [B,C,P] and their shares [B,K,P] to descriptors [B,K*C]."""
        # sum_p a_kp (x_p - c_k) = (a x^T)_k - (sum_p a_kp) c_k: no [B,K,C,P] tensor of residuals.
        residuals = torch.matmul(assignment, x.transpose(1, 2)) - assignment.sum(dim=2, keepdim=True) * self.centroids
        return l2_normalise(F.normalize(residuals, dim=2).flatten(1)) if self.normalised else residuals.flatten(1)

    @torch.no_grad()
    def set_clusters(self, centroids: Tensor, samples: Tensor) -> None:
        """Put the clusters at `centroids` [K,C], and fit the assignment as `SoftlyAssigned`."""
        super().set_clusters(centroids, samples)
        self.centroids.copy_(centroids)
