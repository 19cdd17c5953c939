"""What transformers over patches share: the forms in which their sequence is handed on, and positions of any size."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from vgbench.models.base import Backbone

# In which form an aggregation can have the sequence of a transformer with a class token.
KINDS = ("map+token", "map", "tokens")


class TokenTrunk(Backbone):
    """A transformer that gives its patches as a map [B,C,h,w], with the class token [B,C], or all as tokens [B,1+hw,C].

    Which of them is `kind`: `build_network` sets it to what the aggregation takes. The class token is the first of the
    tokens; register tokens are not handed on.
    """

    kinds: tuple[str, ...] = KINDS
    kind: str = "map+token"
    class_token = True
    out_channels: int

    def hand_on(self, tokens: Tensor, height: int, width: int) -> Tensor | tuple[Tensor, Tensor]:
        """Return tokens [B,1+R+hw,C] (class, R registers, patches) in the form that `kind` says."""
        token, patches = tokens[:, 0], tokens[:, -height * width :]
        if self.kind == "tokens":
            return torch.cat([token.unsqueeze(1), patches], dim=1)
        features = patches.transpose(1, 2).reshape(tokens.shape[0], -1, height, width)
        return features if self.kind == "map" else (features, token)


def resized_positions(
    positions: Tensor, height: int, width: int, *, antialias: bool, offset: float | None = None
) -> Tensor:
    """Return learned positions [1,N,C] of a square grid for another one, bicubically: [1,height*width,C].

    Args:
        positions: as learned; given back as they are where the grid is theirs.
        antialias: smooth where the grid becomes coarser.
        offset: scale by (height + offset) / side instead of the exact ratio of sizes.
    """
    side = math.isqrt(int(positions.shape[1]))
    if (height, width) == (side, side):
        return positions
    grid = positions.float().transpose(1, 2).reshape(1, -1, side, side)
    if offset is None:
        grid = F.interpolate(grid, size=(height, width), mode="bicubic", antialias=antialias)
    else:
        # Plain numbers where torch.jit.trace brings tensors: a factor cannot be one.
        scale = [(float(length) + offset) / side for length in (height, width)]
        grid = F.interpolate(grid, scale_factor=scale, mode="bicubic", antialias=antialias)
    return grid.flatten(2).transpose(1, 2).to(positions.dtype)
