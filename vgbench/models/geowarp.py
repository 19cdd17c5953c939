"""GeoWarp: the part that two images share, regressed from the correlation of their local features.

Berton, Masone, Paolicelli, Caputo: Viewpoint Invariant Dense Matching for Visual Geolocalization, ICCV 2021.

Points are (x, y), -1 and 1 being the outer edges of the image (`align_corners=False`). A quadrilateral has its corners
in the order top left, top right, bottom right, bottom left.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vgbench.errors import UserError
from vgbench.models.layers import full_precision
from vgbench.models.network import GEOWARP as NAME
from vgbench.models.network import Network

# Cells a side of the maps that are correlated.
GRID = 15
WHOLE = ((-1.0, -1.0), (1.0, -1.0), (1.0, 1.0), (-1.0, 1.0))
_KERNELS, _CHANNELS = (7, 5, 5, 5, 5, 5), (128, 64, 64, 64, 64, 64)
# The corners of an image, mirrored left to right, are these corners of the mirrored image.
_MIRRORED = (1, 0, 3, 2)


class GeoWarp(nn.Module):
    """Two images' feature maps [B,C,h,w] to what they share: a quadrilateral in each, float32 [B,2,4,2].

    The maps are brought to 15x15 cells of unit length and correlated, each cell with each; convolutions and a linear
    layer turn that into 16 numbers. An untrained one answers that the two images show the same.
    """

    def __init__(self) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        inputs, side = GRID * GRID, GRID
        for kernel, outputs in zip(_KERNELS, _CHANNELS, strict=True):
            layers += [nn.Conv2d(inputs, outputs, kernel, padding=1), nn.BatchNorm2d(outputs), nn.ReLU()]
            inputs, side = outputs, side + 3 - kernel
        self.convolutions = nn.Sequential(*layers)
        self.corners = nn.Linear(inputs * side * side, 16)
        nn.init.zeros_(self.corners.weight)
        with torch.no_grad():
            self.corners.bias.copy_(torch.tensor([WHOLE, WHOLE]).flatten())

    def forward(self, one: Tensor, other: Tensor) -> Tensor:
        """Return the quadrilaterals float32 [B,2,4,2], the first in the first image."""
        with full_precision(one):  # corners are finer than bf16, whose gradients here are no faster on a CPU
            corners: Tensor = self.corners(self.convolutions(correlation(one.float(), other.float())).flatten(1))
        return corners.view(-1, 2, 4, 2)

    def both_ways(self, one: Tensor, other: Tensor) -> Tensor:
        """Return the mean of the answers for (one, other) and, exchanged, (other, one): float32 [B,2,4,2]."""
        there: Tensor = self(one, other)
        back: Tensor = self(other, one)
        return (there + back.flip(1)) / 2


def correlation(one: Tensor, other: Tensor) -> Tensor:
    """Compare every cell of one map with every cell of another: [B,C,h,w] twice -> [B,225,15,15].

    Place (row, column) has the similarities of that cell of `one` with all cells of `other`, negative ones set to 0,
    as a vector of unit length (Rocco et al., 2017).
    """
    left, right = cells(one), cells(other)
    similar = torch.einsum("bcn,bcm->bmn", left, right).relu()
    return F.normalize(similar, dim=1).view(len(one), GRID * GRID, GRID, GRID)


def cells(features: Tensor, side: int = GRID) -> Tensor:
    """Bring maps [B,C,h,w] to side x side local features of unit length: [B,C,side*side]."""
    if features.shape[2:] != (side, side):
        features = F.interpolate(features, (side, side), mode="bilinear", align_corners=False, antialias=True)
    return F.normalize(features.flatten(2), dim=1)


def difference(one: Tensor, other: Tensor) -> Tensor:
    """Return the mean squared distance of local features at the same places of two maps [B,C,h,w]: [B], 0 to 4."""
    left, right = (F.normalize(features.float(), dim=1) for features in (one, other))
    return (left - right).square().sum(1).mean((1, 2))


def projection(quads: Tensor) -> Tensor:
    """Return the homographies that take the whole image to quadrilaterals [B,4,2]: [B,3,3].

    In closed form (Heckbert, 1989), differentiable; of a quadrilateral that has collapsed it is finite and of no use.
    """
    (x0, x1, x2, x3), (y0, y1, y2, y3) = quads.unbind(2)[0].unbind(1), quads.unbind(2)[1].unbind(1)
    dx1, dx2, dy1, dy2 = x1 - x2, x3 - x2, y1 - y2, y3 - y2
    sx, sy = x0 - x1 + x2 - x3, y0 - y1 + y2 - y3
    area = dx1 * dy2 - dx2 * dy1
    area = torch.where(area < 0, area.clamp_max(-1e-4), area.clamp_min(1e-4))
    g, h = (sx * dy2 - dx2 * sy) / area, (dx1 * sy - sx * dy1) / area
    unit = torch.stack(
        [x1 - x0 + g * x1, x3 - x0 + h * x3, x0, y1 - y0 + g * y1, y3 - y0 + h * y3, y0, g, h, torch.ones_like(g)], 1
    ).view(-1, 3, 3)
    # From [-1,1] to [0,1] first.
    return unit @ unit.new_tensor([[0.5, 0, 0.5], [0, 0.5, 0.5], [0, 0, 1]])


def project(matrices: Tensor, points: Tensor) -> Tensor:
    """Move points [B,N,2] by homographies [B,3,3]."""
    moved = F.pad(points, (0, 1), value=1.0) @ matrices.transpose(1, 2)
    depth = moved[..., 2:]
    depth = torch.where(depth < 0, depth.clamp_max(-1e-4), depth.clamp_min(1e-4))
    return moved[..., :2] / depth


def warp(images: Tensor, quads: Tensor, size: tuple[int, int] | None = None) -> Tensor:
    """Cut quadrilaterals [B,4,2] out of images [B,C,H,W] and stretch each to a rectangle of `size` (None: H, W).

    Bilinear; 0 where a quadrilateral leaves its image.
    """
    height, width = size or (images.shape[2], images.shape[3])
    y = (torch.arange(height, device=images.device, dtype=torch.float32) * 2 + 1) / height - 1
    x = (torch.arange(width, device=images.device, dtype=torch.float32) * 2 + 1) / width - 1
    pixels = torch.stack(torch.meshgrid(x, y, indexing="xy"), -1).view(1, -1, 2).expand(len(images), -1, -1)
    with full_precision(images):
        grid = project(projection(quads.float()), pixels).view(-1, height, width, 2)
        return F.grid_sample(images.float(), grid, mode="bilinear", padding_mode="zeros", align_corners=False)


def mirrored(quads: Tensor) -> Tensor:
    """Return where quadrilaterals [...,4,2] are in the images mirrored left to right."""
    return quads[..., _MIRRORED, :] * quads.new_tensor([-1.0, 1.0])


def random_views(count: int, cut: float, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Draw pairs of views of one image, and what the two of each pair share.

    A view is a trapezoid with upright sides: left and right edge, and each end of the top and of the bottom edge, are
    moved into the image by up to `cut` / 2 of its side. What two views share spans the columns that both have, and
    between the lower of the tops and the higher of the bottoms at either end.

    Args:
        count: B.
        cut: 0 (all views are the whole image) to below 1.
        generator: on the CPU.

    Returns:
        The views [B,2,4,2], in the image; and what they share as it looks from each, [B,2,4,2]: the right answer to
        the two views, stretched to rectangles, as images. Float32, on the CPU.
    """
    moved = cut * torch.rand(count, 2, 6, generator=generator, dtype=torch.float64)
    left, right = moved[..., 0] - 1, 1 - moved[..., 1]
    top, bottom = moved[..., 2:4] - 1, 1 - moved[..., 4:]
    views = _trapezoids(left, right, top, bottom)
    start, end = left.amax(1), right.amin(1)
    ends = torch.stack([start, end], 1)  # [B,2]
    share = (ends[:, None] - left[..., None]) / (right - left)[..., None]  # [B,2 views,2 ends]
    tops = top[..., :1] + share * (top[..., 1:] - top[..., :1])
    bottoms = bottom[..., :1] + share * (bottom[..., 1:] - bottom[..., :1])
    shared = _trapezoids(start, end, tops.amax(1), bottoms.amin(1))  # [B,4,2]
    back = torch.linalg.inv(projection(views.flatten(0, 1)))
    seen = project(back, shared[:, None].expand(-1, 2, -1, -1).flatten(0, 1)).view_as(views)
    return views.float(), seen.float()


def _trapezoids(left: Tensor, right: Tensor, top: Tensor, bottom: Tensor) -> Tensor:
    """Upright sides at left and right [...], their upper and lower ends [...,2]: corners [...,4,2]."""
    x = torch.stack([left, right, right, left], -1)
    y = torch.stack([top[..., 0], top[..., 1], bottom[..., 1], bottom[..., 0]], -1)
    return torch.stack([x, y], -1)


def attach(network: Network) -> GeoWarp:
    """Give a network its own GeoWarp, untrained, if it has none, and return it; checkpoints then carry its weights.

    Raises:
        UserError: the backbone gives no map of local features.
    """
    kind = network.backbone.kind
    if kind != "map":
        raise UserError(
            f"geowarp: {network.name} has no map of local features (its backbone gives {kind}). Expected a "
            "convolutional backbone; train one with --backbone resnet18conv4, say"
        )
    found = geowarp_of(network)
    if found is None:
        found = GeoWarp()
        network.geowarp = found
        network.config[NAME] = True
    return found


def geowarp_of(network: Any) -> GeoWarp | None:
    """Return a network's GeoWarp, None where it has none."""
    found = None if network is None else network.geowarp
    return found if isinstance(found, GeoWarp) else None
