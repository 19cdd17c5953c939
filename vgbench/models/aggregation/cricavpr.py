"""CricaVPR (Lu et al., 2024): GeM over a pyramid of regions, and an encoder across the images of a batch."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vgbench.models.aggregation.gem import GeM
from vgbench.models.base import Aggregation
from vgbench.models.layers import check_heads, l2_normalise

GRIDS = (2, 3)  # cells a side of the pyramid's levels; the first level is the class token
WIDTH, LAYERS, DROPOUT = 2048, 2, 0.1


class CricaVPR(Aggregation):
    """A map [B,C,h,w] and the class token [B,C] to [B,14*C], L2-normalised.

    The class token, 2x2 and 3x3 regions, each pooled by the same GeM, are 14 parts of an image; each attends to the
    same part of the other images of the batch, so that a descriptor depends on its batch.
    """

    takes = "map+token"
    mixes_batch = True
    mixed_batch = 16  # as its authors test theirs, Pittsburgh excepted (8)

    def __init__(self, in_channels: int, *, nhead: int = 16) -> None:
        """Build it; 10752 dimensions on DINOv2-B, with the paper's attention heads.

        Raises:
            UserError: channels that the encoder's heads do not divide.
        """
        check_heads("cricavpr", nhead, in_channels)
        super().__init__()
        self.gem = GeM(in_channels)
        layer = nn.TransformerEncoderLayer(
            in_channels, nhead, WIDTH, DROPOUT, activation="gelu", batch_first=False
        )  # fmt: skip
        self.encoder = nn.TransformerEncoder(layer, LAYERS, enable_nested_tensor=False)
        self.descriptors_dim = (1 + sum(grid**2 for grid in GRIDS)) * in_channels

    def forward(self, features: tuple[Tensor, Tensor]) -> Tensor:
        patches, token = features
        unit = l2_normalise(patches)
        parts = [token, *(self.gem(region) for grid in GRIDS for region in regions(unit, grid))]
        # The images are the encoder's sequence, the parts its batch.
        mixed = self.encoder(torch.stack([part.to(token.dtype) for part in parts], dim=1))
        return F.normalize(mixed.float().flatten(1), dim=1)


def regions(features: Tensor, grid: int) -> list[Tensor]:
    """Cut a map [B,C,h,w] into grid x grid regions [B,C,h',w'], row after row, at rounded multiples of h and w / grid.

    Every region has a row and a column at least, shared with its neighbour where the map has fewer than `grid`.
    """
    rows, columns = (_spans(size, grid) for size in features.shape[2:])
    return [features[:, :, row, column] for row in rows for column in columns]


def _spans(size: int, grid: int) -> list[slice]:
    bounds = [(2 * size * cell + grid) // (2 * grid) for cell in range(grid + 1)]
    starts = [min(start, size - 1) for start in bounds[:-1]]
    return [slice(start, max(stop, start + 1)) for start, stop in zip(starts, bounds[1:], strict=True)]
