"""Triplet loss to the centroids of places."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class CentroidTripletLoss(nn.Module):
    """Every image beside the mean of the other images of its place, and beside the means of other places.

    The negative is the nearest centroid of another place (Wieczorek, Rychalska and Dabrowski, "On the unreasonable
    effectiveness of centroids in image retrieval", 2021).

    Args:
        margin: in Euclidean distance of unit descriptors.
    """

    def __init__(self, margin: float = 0.05) -> None:
        super().__init__()
        self.margin = margin

    def forward(self, embeddings: Tensor, labels: Tensor, indices_tuple: object = None) -> Tensor:
        """Return the loss, a scalar.

        Args:
            embeddings: [B,D].
            labels: int64 [B].
            indices_tuple: what a miner found: taken for the signature's sake, since centroids need whole places.
        """
        embeddings = F.normalize(embeddings, dim=1)
        _, place, counts = torch.unique(labels, return_inverse=True, return_counts=True)
        member = F.one_hot(place, len(counts)).to(embeddings.dtype)  # [B,P]
        sums = member.T @ embeddings
        own = (sums[place] - embeddings) / (counts[place] - 1).clamp(min=1)[:, None]
        positive = (embeddings - own).norm(dim=1)
        to_others = torch.cdist(embeddings, sums / counts[:, None], compute_mode="donot_use_mm_for_euclid_dist")
        negative = to_others.masked_fill(member.bool(), float("inf")).amin(1)
        usable = (counts[place] > 1) & negative.isfinite()
        losses = F.relu(positive - negative + self.margin)[usable]
        return losses.mean() if len(losses) else embeddings.sum() * 0
