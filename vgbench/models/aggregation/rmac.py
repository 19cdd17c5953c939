"""R-MAC (Tolias, Sicre and Jegou, 2016): the sum of the normalised maxima of square regions at several scales."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from vgbench.models.base import Aggregation
from vgbench.models.layers import full_precision

# Neighbouring regions of the coarsest scale overlap by about this share.
OVERLAP = 0.4
MOST_REGIONS = 7
EPS = 1e-6


class RMAC(Aggregation):
    """[B,C,H,W] to [B,C] float32: the whole map's maxima and those of its regions, each of unit length, summed."""

    places_l2 = True

    def __init__(self, in_channels: int, *, scales: int = 3) -> None:
        """`scales`: region sizes from the shorter side down; 3 in the paper."""
        super().__init__()
        self.scales = scales
        self.descriptors_dim = in_channels

    def forward(self, features: Tensor) -> Tensor:
        with full_precision(features):
            x = features.float()
            maxima = [x.amax(dim=(2, 3))]
            for top, left, side in regions(x.shape[2], x.shape[3], self.scales):
                maxima.append(x[:, :, top : top + side, left : left + side].amax(dim=(2, 3)))
            stacked = torch.stack(maxima)  # [R,B,C]
            summed: Tensor = (stacked / (stacked.norm(dim=2, keepdim=True) + EPS)).sum(dim=0)
            return summed


def regions(height: int, width: int, scales: int) -> list[tuple[int, int, int]]:
    """Return the squares (top, left, side) of a map, coarsest first.

    At scale l a square's side is 2 min(H, W) / (l + 1); l of them lie along the shorter side and l + extra along the
    longer, where `extra` makes the overlap at the first scale the nearest to OVERLAP.
    """
    shorter, longer = min(height, width), max(height, width)
    extra = _extra_regions(shorter, longer)
    squares = []
    for scale in range(1, scales + 1):
        side = 2 * shorter // (scale + 1)
        if side == 0:
            break
        rows = _starts(height, side, scale + (extra if height > width else 0))
        columns = _starts(width, side, scale + (extra if width > height else 0))
        squares += [(top, left, side) for top in rows for left in columns]
    return squares


def _extra_regions(shorter: int, longer: int) -> int:
    if shorter == longer:
        return 0
    # With n + 1 squares in a row, neighbours are (longer - shorter) / n apart.
    overlaps = [1 - (longer - shorter) / n / shorter for n in range(1, MOST_REGIONS)]
    return min(range(len(overlaps)), key=lambda i: abs(overlaps[i] - OVERLAP)) + 1


def _starts(size: int, side: int, count: int) -> list[int]:
    """Return where `count` squares of `side` begin that are spread evenly over an axis."""
    step = (size - side) / (count - 1) if count > 1 else 0.0
    # A square is placed by its middle pixel; for odd sides that pixel is left of the true middle.
    middle = math.floor(side / 2 - 1)
    return [math.floor(middle + index * step) - middle for index in range(count)]
