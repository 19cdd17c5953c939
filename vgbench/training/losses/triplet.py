"""Triplet margin loss (FaceNet: Schroff, Kalenichenko, Philbin, 2015; for places: Arandjelovic et al., 2016)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

# Keeps the gradient of the distance finite where two descriptors coincide. It is added to each difference, where
# torch's own pairwise distance adds it, so that losses agree with the released models' training to the last digits.
EPS = 1e-6


def pairwise_distance(one: Tensor, other: Tensor) -> Tensor:
    """Return the Euclidean distances [...] of [...,D] and [...,D], with a finite gradient at zero."""
    distance: Tensor = torch.linalg.vector_norm(one - other + EPS, dim=-1)
    return distance


class TripletLoss(nn.Module):
    """Sum over queries and negatives of max(0, |q - p| - |q - n| + margin).

    Args:
        margin: in descriptor distance; 0.1 is the field's value for L2-normalised descriptors.
    """

    def __init__(self, margin: float = 0.1) -> None:
        super().__init__()
        self.margin = margin

    def forward(self, query: Tensor, positive: Tensor, negatives: Tensor) -> Tensor:
        """Return the loss, a scalar, of query [B,D], positive [B,D], negatives [B,N,D]."""
        to_positive = pairwise_distance(query, positive)  # [B]
        to_negatives = pairwise_distance(query.unsqueeze(1), negatives)  # [B,N]
        return torch.relu(to_positive.unsqueeze(1) - to_negatives + self.margin).sum()
