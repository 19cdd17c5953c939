"""Rotation, crop and perspective of images: one bilinear sampling, with parameters of its own for each image."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Generator, Tensor

from vgbench.data.augment.options import AugmentOptions

PERSPECTIVE_PROBABILITY = 0.5
CROP_RATIO = (3 / 4, 4 / 3)
_CROP_TRIES = 10


@dataclass(frozen=True, eq=False)
class GeometryParameters:
    """Where B images' pixels come from, as homographies from an output's pixels to its input's, float64 [B,3,3].

    Coordinates have x right and y down, in pixels from the image's top left corner (the first pixel's centre is at
    0.5). An output pixel goes through `rotation`, then `crop`, then `perspective`; what leaves the picture after
    the first or the last of them is black.
    """

    rotation: Tensor
    crop: Tensor
    perspective: Tensor


def draw_geometry(
    options: AugmentOptions, count: int, height: int, width: int, generator: Generator
) -> GeometryParameters:
    """Draw a rotation, a crop and a perspective for each of `count` images of a height and width in pixels."""
    angles = (2 * torch.rand(count, generator=generator, dtype=torch.float64) - 1) * options.random_rotation
    boxes = draw_crops(options.random_resized_crop, count, height, width, generator)
    corners = draw_corners(options.rand_perspective, count, height, width, generator)
    return GeometryParameters(
        rotation=rotation_matrices(angles, height, width),
        crop=crop_matrices(boxes, height, width),
        perspective=perspective_matrices(corners, height, width),
    )


def draw_crops(most: float, count: int, height: int, width: int, generator: Generator) -> Tensor:
    """Draw boxes of 1 - most to 1 of the area and an aspect ratio of 3:4 to 4:3; int64 [count,4] top, left, h, w.

    Of ten candidates an image the first that fits is taken, as the field does; if none fits, or `most` is 0, all of it.
    """
    shape = (count, _CROP_TRIES)
    area = height * width * (1 - most * torch.rand(shape, generator=generator, dtype=torch.float64))
    spread = torch.rand(shape, generator=generator, dtype=torch.float64)
    ratio = torch.exp(math.log(CROP_RATIO[0]) + spread * math.log(CROP_RATIO[1] / CROP_RATIO[0]))
    w, h = (area * ratio).sqrt().round().long(), (area / ratio).sqrt().round().long()
    fits = (w > 0) & (w <= width) & (h > 0) & (h <= height)
    first = fits.long().argmax(1, keepdim=True)  # the first of equal values
    whole = ~fits.any(1) if most else torch.ones(count, dtype=torch.bool)
    h = torch.where(whole, height, h.gather(1, first)[:, 0])
    w = torch.where(whole, width, w.gather(1, first)[:, 0])
    offset = torch.rand(count, 2, generator=generator, dtype=torch.float64)
    top = (offset[:, 0] * (height - h + 1)).long()
    left = (offset[:, 1] * (width - w + 1)).long()
    return torch.stack([top, left, h, w], 1)


def draw_corners(distortion: float, count: int, height: int, width: int, generator: Generator) -> Tensor:
    """Draw where the four corner pixels go: float64 [count,4,2], x and y, clockwise from the top left.

    Each moves inwards by up to `distortion` times half the width and height; every second image stays as it is.
    """
    reach = torch.tensor([int(distortion * (width // 2)) + 1, int(distortion * (height // 2)) + 1])
    moves = (torch.rand(count, 4, 2, generator=generator, dtype=torch.float64) * reach).floor()
    applied = torch.rand(count, generator=generator) < PERSPECTIVE_PROBABILITY
    inwards = torch.tensor([[1, 1], [-1, 1], [-1, -1], [1, -1]], dtype=torch.float64)
    return _corners(height, width) + moves * inwards * applied[:, None, None]


def rotation_matrices(angles: Tensor, height: int, width: int) -> Tensor:
    """Return output-to-input matrices [B,3,3] of counter-clockwise rotations about the centre by degrees [B]."""
    cos, sin = torch.cos(torch.deg2rad(angles)), torch.sin(torch.deg2rad(angles))
    x, y = width / 2, height / 2
    zero, one = torch.zeros_like(cos), torch.ones_like(cos)
    rows = [cos, -sin, x - cos * x + sin * y, sin, cos, y - sin * x - cos * y, zero, zero, one]
    return torch.stack(rows, 1).reshape(-1, 3, 3)


def crop_matrices(boxes: Tensor, height: int, width: int) -> Tensor:
    """Return matrices [B,3,3] that stretch boxes [B,4] (top, left, height, width in pixels) over the whole output."""
    top, left, h, w = boxes.double().unbind(1)
    zero, one = torch.zeros_like(h), torch.ones_like(h)
    return torch.stack([w / width, zero, left, zero, h / height, top, zero, zero, one], 1).reshape(-1, 3, 3)


def perspective_matrices(corners: Tensor, height: int, width: int) -> Tensor:
    """Return homographies [B,3,3] that take each moved corner [B,4,2] (x, y) back to the image's own corner.

    The eight unknowns of ((a x + b y + c) / (g x + h y + 1), (d x + e y + f) / (g x + h y + 1)) solve a linear
    system with two rows a corner.
    """
    x, y = corners.unbind(-1)
    u, v = _corners(height, width).expand_as(corners).unbind(-1)
    zero, one = torch.zeros_like(x), torch.ones_like(x)
    of_u = torch.stack([x, y, one, zero, zero, zero, -u * x, -u * y], -1)
    of_v = torch.stack([zero, zero, zero, x, y, one, -v * x, -v * y], -1)
    solution = torch.linalg.solve(torch.cat([of_u, of_v], 1), torch.cat([u, v], 1))
    return torch.cat([solution, torch.ones_like(solution[:, :1])], 1).reshape(-1, 3, 3)


def _corners(height: int, width: int) -> Tensor:
    right, bottom = width - 1, height - 1
    return torch.tensor([[0, 0], [right, 0], [right, bottom], [0, bottom]], dtype=torch.float64)


def warp(images: Tensor, parameters: GeometryParameters) -> Tensor:
    """Rotate, crop and distort float [B,3,H,W] with one bilinear sampling; outside is 0."""
    count, _, height, width = images.shape
    device = images.device
    x = torch.arange(width, device=device, dtype=torch.float32) + 0.5
    y = torch.arange(height, device=device, dtype=torch.float32) + 0.5
    pixels = torch.stack([*torch.meshgrid(x, y, indexing="xy"), torch.ones(height, width, device=device)], -1)
    size = torch.tensor([width, height], dtype=torch.float32, device=device)

    def mapped(homographies: Tensor) -> tuple[Tensor, Tensor]:
        points = pixels.reshape(1, -1, 3) @ homographies.float().to(device).transpose(1, 2)
        points = points[..., :2] / points[..., 2:]
        # Half a thousandth of a pixel of slack: an identity must not lose its border to rounding.
        inside = ((points >= -5e-4) & (points <= size + 5e-4)).all(-1)
        return points.reshape(count, height, width, 2), inside.reshape(count, 1, height, width)

    _, in_crop = mapped(parameters.rotation)
    points, in_image = mapped(parameters.perspective @ parameters.crop @ parameters.rotation)
    sampled = F.grid_sample(images, points * (2 / size) - 1, "bilinear", "border", align_corners=False)
    return sampled * (in_crop & in_image)
