"""Contextual reweighting network (Kim, Dunn and Frahm, 2017): NetVLAD that looks where context says."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vgbench.models.aggregation.netvlad import NetVLAD
from vgbench.models.layers import full_precision, l2_normalise

# Filters of 3x3, 5x5 and 7x7 context, as in the paper.
FILTERS = {3: 32, 5: 32, 7: 20}


class ContextMask(nn.Module):
    """Weights [B,1,H,W] of the positions of a map [B,C,H,W], from context at half the resolution."""

    def __init__(self, in_channels: int) -> None:
        super().__init__()
        self.filter_3_3 = nn.Conv2d(in_channels, FILTERS[3], 3, padding=1)
        self.filter_5_5 = nn.Conv2d(in_channels, FILTERS[5], 5, padding=2)
        self.filter_7_7 = nn.Conv2d(in_channels, FILTERS[7], 7, padding=3)
        self.acc_w = nn.Conv2d(sum(FILTERS.values()), 1, 1)
        for conv in (self.filter_3_3, self.filter_5_5, self.filter_7_7, self.acc_w):
            nn.init.xavier_normal_(conv.weight)
            nn.init.zeros_(conv.bias)  # type: ignore[arg-type]
        # The responses are added up, and what adds them is not trained, as in the Deep VG Benchmark: with drawn weights
        # the sum may be negative everywhere, and the ReLU after it shuts the whole network off.
        nn.init.ones_(self.acc_w.weight)
        self.acc_w.requires_grad_(False)

    def forward(self, features: Tensor) -> Tensor:
        coarse = F.avg_pool2d(features, kernel_size=3, stride=2, ceil_mode=True)
        context = torch.cat([self.filter_3_3(coarse), self.filter_5_5(coarse), self.filter_7_7(coarse)], dim=1)
        weights = F.relu(self.acc_w(F.relu(context)))
        return F.interpolate(weights, size=features.shape[2:], mode="bilinear", align_corners=False)


class CRN(NetVLAD):
    """[B,C,H,W] to [B,K*C], L2-normalised; NetVLAD's keys and `crn`, so that it starts from a trained NetVLAD."""

    takes = "map"

    def __init__(self, in_channels: int, *, netvlad_clusters: int = 64) -> None:
        super().__init__(in_channels, netvlad_clusters=netvlad_clusters)
        self.crn = ContextMask(in_channels)

    def forward(self, features: Tensor) -> Tensor:
        with full_precision(features):
            x = l2_normalise(features)
            mask = self.crn(x).flatten(2)
            x = x.flatten(2)
            assignment = torch.matmul(self.conv.weight.flatten(1), x).softmax(dim=1)
            return self.aggregate(x, assignment * mask)
