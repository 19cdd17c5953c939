"""VLAD-BuFF (Khaliq et al., 2024): NetVLAD that counts what repeats less, with fewer channels before it clusters."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from vgbench.models.aggregation.netvlad import NetVLAD
from vgbench.models.layers import full_precision, l2_normalise

# Of the sigmoid over similarities at the start: its slope, its offset, and the power of the sum.
BURST = (8.0, 7.0, 1.0)


class VLADBuFF(NetVLAD):
    """[B,C,h,w] to [B,K*D], L2-normalised; D is `nv_pca`, or C without one.

    A local feature's assignment is divided by how many others of its image resemble it: the sum of a sigmoid of its
    (negative, squared) distances to them.
    """

    takes = "map"

    def __init__(
        self, in_channels: int, *, netvlad_clusters: int = 64, nv_pca: int | None = None, antiburst: bool = True
    ) -> None:
        """Defaults are the paper's for 49152 dimensions; 192 of `nv_pca` give 12288."""
        super().__init__(nv_pca or in_channels, netvlad_clusters=netvlad_clusters)
        if nv_pca is not None:
            self.pca_mean = nn.Parameter(torch.zeros(in_channels))
            self.pca_rot = nn.Parameter(torch.empty(nv_pca, in_channels))
            nn.init.orthogonal_(self.pca_rot)
        self.nv_pca, self.antiburst = nv_pca, antiburst
        if antiburst:
            self.ab_params = nn.Parameter(torch.tensor(BURST))

    def forward(self, features: Tensor) -> Tensor:
        with full_precision(features):
            x = self.reduced(l2_normalise(features).flatten(2))
            assignment = torch.matmul(self.conv.weight.flatten(1).float(), x).softmax(dim=1)
            if self.antiburst:
                assignment = assignment / self._repetition(x)
            return self.aggregate(x, assignment)

    @torch.no_grad()
    def fit(self, samples: Tensor) -> Tensor:
        """Learn the channels that are kept from unit features `samples` [S,C]; return these in them, [S,D]."""
        if self.nv_pca is None:
            return samples
        x = samples.float()
        self.pca_mean.copy_(x.mean(dim=0))
        directions = torch.linalg.eigh(torch.cov(x.T, correction=0)).eigenvectors
        self.pca_rot.copy_(directions.flip(1)[:, : self.nv_pca].T)
        return self.reduced(x.T.unsqueeze(0))[0].T

    def reduced(self, x: Tensor) -> Tensor:
        """Return unit local features [B,C,P] in the channels that are clustered: unit features [B,D,P]."""
        if self.nv_pca is None:
            return x
        return l2_normalise(torch.matmul(self.pca_rot.float(), x - self.pca_mean.float()[:, None]))

    def _repetition(self, x: Tensor) -> Tensor:
        """Return how often each of the unit features [B,D,P] is there: [B,1,P]."""
        slope, offset, power = self.ab_params.float()
        distances = 2 * torch.matmul(x.transpose(1, 2), x) - 2
        return torch.sigmoid(slope * distances + offset).sum(dim=2).pow(power).unsqueeze(1)
