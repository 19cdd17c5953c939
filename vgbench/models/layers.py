"""Small layers that several methods share."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import torch
import torch.nn.functional as F
from torch import Tensor, nn


@contextlib.contextmanager
def full_precision(tensor: Tensor) -> Iterator[None]:
    """Switch autocast off on `tensor`'s device: sums and norms over many terms need float32."""
    with torch.autocast(tensor.device.type, enabled=False):
        yield


def l2_normalise(x: Tensor, dim: int = 1) -> Tensor:
    """Scale `x` to unit Euclidean length along `dim`; float32 out, whatever comes in."""
    return F.normalize(x.float(), p=2.0, dim=dim)


class L2Norm(nn.Module):
    """Unit Euclidean length along one dimension (1: the channels of a map, or a descriptor)."""

    def __init__(self, dim: int = 1) -> None:
        super().__init__()
        self.dim = dim

    def forward(self, x: Tensor) -> Tensor:
        return l2_normalise(x, self.dim)
