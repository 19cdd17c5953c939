"""How far the similarities of a batch's images are from those that something else says (Tung and Mori, 2019)."""

from __future__ import annotations

from torch import Tensor


def similarity_loss(found: Tensor, wanted: Tensor) -> Tensor:
    """Return the mean squared difference [] of the similarities of different images; 0 of a single one.

    Args:
        found: [B,D], of unit length.
        wanted: [B,T], of unit length.
    """
    count = len(found)
    if count < 2:
        return found.sum() * 0
    apart = (found @ found.T - wanted @ wanted.T).square()
    return (apart.sum() - apart.diagonal().sum()) / (count * (count - 1))
