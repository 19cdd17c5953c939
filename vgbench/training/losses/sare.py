"""Stochastic attraction and repulsion embedding (SARE; Liu, Li, Dai, 2019), Gaussian kernel on the distances."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional


def _squared_distances(query: Tensor, positive: Tensor, negatives: Tensor) -> tuple[Tensor, Tensor]:
    """Return squared Euclidean distances to the positive [B] and to the negatives [B,N]."""
    return (query - positive).square().sum(-1), (query.unsqueeze(1) - negatives).square().sum(-1)


class SareJoint(nn.Module):
    """Sum over queries of -log of the probability that the positive is the match among it and all its negatives."""

    def forward(self, query: Tensor, positive: Tensor, negatives: Tensor) -> Tensor:
        """Return the loss, a scalar, of query [B,D], positive [B,D], negatives [B,N,D]."""
        to_positive, to_negatives = _squared_distances(query, positive, negatives)
        every = torch.cat([to_positive.unsqueeze(1), to_negatives], dim=1)  # [B,1+N]
        return (to_positive + torch.logsumexp(-every, dim=1)).sum()


class SareInd(nn.Module):
    """Sum over queries and negatives of -log of the probability that the positive beats that negative alone."""

    def forward(self, query: Tensor, positive: Tensor, negatives: Tensor) -> Tensor:
        """Return the loss, a scalar, of query [B,D], positive [B,D], negatives [B,N,D]."""
        to_positive, to_negatives = _squared_distances(query, positive, negatives)
        return functional.softplus(to_positive.unsqueeze(1) - to_negatives).sum()
