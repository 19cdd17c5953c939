"""Random erasing (Zhong et al., 2020): a rectangle of an image becomes random pixels."""

from __future__ import annotations

import math

import torch
from torch import Generator, Tensor

from vgbench.data.augment.noise import draw_offsets, uniform_noise
from vgbench.data.augment.options import AugmentOptions

ASPECT = (0.3, 1 / 0.3)  # height to width
_TRIES = 10


def draw_boxes(options: AugmentOptions, count: int, height: int, width: int, generator: Generator) -> Tensor:
    """Draw rectangles and where their random pixels come from: int64 [count,4 + 6].

    The first four are top, left, height and width in pixels, of area 0 in images that stay as they are; the six are
    places in the tile of noise for three channels. Of ten candidates an image the first that fits is taken.
    """
    shape = (count, _TRIES)
    applied = torch.rand(count, generator=generator) < options.random_erasing
    low, high = options.erasing_area
    area = height * width * (low + (high - low) * torch.rand(shape, generator=generator, dtype=torch.float64))
    spread = torch.rand(shape, generator=generator, dtype=torch.float64)
    ratio = torch.exp(math.log(ASPECT[0]) + spread * math.log(ASPECT[1] / ASPECT[0]))
    h, w = (area * ratio).sqrt().round().long(), (area / ratio).sqrt().round().long()
    fits = (h > 0) & (h < height) & (w > 0) & (w < width)
    first = fits.long().argmax(1, keepdim=True)
    keep = applied & fits.any(1)
    h, w = h.gather(1, first)[:, 0] * keep, w.gather(1, first)[:, 0] * keep
    offset = torch.rand(count, 2, generator=generator, dtype=torch.float64)
    top, left = (offset[:, 0] * (height - h + 1)).long(), (offset[:, 1] * (width - w + 1)).long()
    return torch.cat([torch.stack([top, left, h, w], 1), draw_offsets(count, 3, generator).flatten(1)], 1)


def erase(images: Tensor, boxes: Tensor) -> Tensor:
    """Put uniform random pixels into the rectangles `boxes` (of `draw_boxes`) of float [B,3,H,W] in 0..1."""
    rows = (boxes[:, 2] * boxes[:, 3]).nonzero().squeeze(1)
    if not len(rows):
        return images
    height, width = images.shape[2:]
    chosen, rows = boxes[rows], rows.to(images.device)
    top, left, h, w = chosen[:, :4].to(images.device)[:, :, None, None].unbind(1)
    y = torch.arange(height, device=images.device)[:, None]
    x = torch.arange(width, device=images.device)
    inside = (y >= top) & (y < top + h) & (x >= left) & (x < left + w)
    pixels = uniform_noise(chosen[:, 4:].reshape(-1, 3, 2), height, width, images.device).to(images.dtype)
    return images.index_copy(0, rows, torch.where(inside[:, None], pixels, images[rows]))
