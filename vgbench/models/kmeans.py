"""k-means for tens of thousands of points, on whatever device they are (Lloyd, 1982)."""

from __future__ import annotations

import torch
from torch import Tensor


@torch.no_grad()
def kmeans(points: Tensor, clusters: int, generator: torch.Generator, iterations: int = 100) -> Tensor:
    """Return the centres float32 [clusters,C] of points float [N,C], N >= clusters.

    Starts from random points and stops when no point changes its cluster. A cluster that loses all its points is
    restarted at the point that is farthest from its own centre.

    Args:
        generator: a CPU generator, so that every device starts alike.
    """
    points = points.float()
    start = torch.randperm(len(points), generator=generator)[:clusters].to(points.device)
    centres = points[start]
    square_norms = points.square().sum(dim=1)
    previous = torch.empty(0, dtype=torch.long)
    for _ in range(iterations):
        # Squared distances without the points' own norms, which change no comparison.
        distances, nearest = torch.addmm(centres.square().sum(dim=1), points, centres.T, alpha=-2).min(dim=1)
        if torch.equal(nearest, previous):
            break
        previous = nearest
        counts = torch.bincount(nearest, minlength=clusters)
        sums = torch.zeros_like(centres).index_add_(0, nearest, points)
        centres = sums / counts.clamp(min=1).unsqueeze(1)
        empty = (counts == 0).nonzero().flatten()
        if len(empty):
            centres[empty] = points[(distances + square_norms).topk(len(empty)).indices]
    return centres
