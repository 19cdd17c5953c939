"""What the re-rankers that work on descriptors share."""

from __future__ import annotations

import torch
from torch import Tensor

from vgbench.errors import UserError
from vgbench.retrieval.predictions import Predictions
from vgbench.retrieval.rerank.base import RerankContext


def require_a_descriptor_a_query(name: str, predictions: Predictions, context: RerankContext) -> None:
    """Raise UserError where a query has several descriptors, or none of its own."""
    if len(context.queries) != len(predictions):
        raise UserError(
            f"--rerank {name}: there are {len(context.queries)} descriptors for {len(predictions)} queries. Expected "
            "one each; use --test_method hard_resize"
        )


def weighted_mean(own: Tensor, others: Tensor, alpha: float) -> Tensor:
    """Average vectors with their neighbours', weighted by the cosine to the power of alpha; keep the vectors' length.

    A vector weighs 1 itself; neighbours that point away count for nothing.

    Args:
        own: float [n,D].
        others: float [n,k,D].
        alpha: 0 for the plain mean.

    Returns:
        float [n,D] of the norms of `own`.
    """
    length = torch.linalg.vector_norm(own, dim=1, keepdim=True)
    lengths = torch.linalg.vector_norm(others, dim=2).clamp_min(1e-30)
    cosines = torch.einsum("nd,nkd->nk", own, others) / (lengths * length.clamp_min(1e-30))
    total = own + torch.einsum("nk,nkd->nd", cosines.clamp_min(0) ** alpha, others)
    out: Tensor = total * (length / torch.linalg.vector_norm(total, dim=1, keepdim=True).clamp_min(1e-30))
    return out
