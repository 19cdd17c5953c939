"""Lamps and lit windows: what they shine on, and what is seen of themselves."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Generator, Tensor

from vgbench.data.augment.options import AugmentOptions

_WINDOWS = 0.3  # part of the lights
_SOFT_EDGE = 0.003  # of a window, in image heights
_NEAR, _FAR = 0.6, 0.4  # a light's pool falls off as two Gaussians, which has about the tails of a lamp's


@dataclass(frozen=True, eq=False)
class Lamps:
    """K light sources in each of B images, float32; lengths and positions in heights of the image.

    Attributes:
        centre: [B,K,2], x and y.
        pool: [B,K,2], x and y of the middle of what is lit.
        reach: [B,K], radius of what is lit.
        colour: [B,K,3], of their light; 0 for lights that are off.
        size: [B,K,2], of what shines: a lamp's radius (twice), or half a window's width and height.
        brightness: [B,K], of what shines, in linear light.
        window: float [B,K], 1 for windows and 0 for lamps.
    """

    centre: Tensor
    pool: Tensor
    reach: Tensor
    colour: Tensor
    size: Tensor
    brightness: Tensor
    window: Tensor

    def __getitem__(self, rows: Tensor) -> Lamps:
        """Return the lights of some images."""
        return Lamps(*(getattr(self, field.name)[rows] for field in dataclasses.fields(self)))

    def to(self, device: torch.device) -> Lamps:
        """Return the lights on a device."""
        return Lamps(*(getattr(self, field.name).to(device) for field in dataclasses.fields(self)))


def draw_lamps(options: AugmentOptions, count: int, generator: Generator) -> Lamps:
    """Draw 0 to `night_lights` lights for each image, positions in an image of 4:3, most of them high up."""
    lights = options.night_lights
    number = torch.randint(lights + 1, (count, 1), generator=generator)
    u = torch.rand(13, count, lights, generator=generator)
    window = (u[0] < _WINDOWS).float()
    centre = torch.stack([u[1], 0.8 * u[2]], -1)
    below = torch.stack([0.2 * (u[3] - 0.5), 0.35 * u[4]], -1)
    # Sodium to daylight: red rises as blue falls, with some green of old fluorescent tubes.
    warm, green = options.night_tint * (2.5 * u[5] - 0.5), 0.5 * options.night_tint * u[6]
    colour = 2 ** torch.stack([warm / 2, green, -warm / 2], -1)
    strength = _between(0.3, 3.0, u[7]) * (torch.arange(lights) < number)
    round_ = _between(0.002, 0.012, u[8])[..., None].expand(-1, -1, 2)
    rectangle = torch.stack([_between(0.02, 0.2, u[9]), _between(0.02, 0.15, u[10])], -1)
    return Lamps(
        centre=centre,
        pool=centre + below,
        reach=_between(0.12, 0.5, u[11]),
        colour=colour * strength[..., None],
        size=torch.where(window[..., None] > 0, rectangle, round_),
        brightness=torch.where(window > 0, _between(1.0, 8.0, u[12]), _between(4.0, 40.0, u[12])),
        window=window,
    )


def _between(low: float, high: float, uniform: Tensor) -> Tensor:
    return low * (high / low) ** uniform


def illumination(lamps: Lamps, height: int, width: int, device: torch.device) -> Tensor:
    """Return the light that falls on each pixel from all lights of its image: linear, float32 [B,3,height,width]."""
    lamps = lamps.to(device)
    reach = lamps.reach[..., None]
    return _spots(lamps.pool, (reach, 2.5 * reach), (_NEAR * lamps.colour, _FAR * lamps.colour), height, width)


def emission(lamps: Lamps, dark: Tensor) -> Tensor:
    """Return the light of the lamps, their halos and the lit windows themselves: linear, [B,3,H,W].

    Args:
        lamps: of B images.
        dark: float [B,1,H,W] in 0..1, high where the picture by day is dark: a room behind a pane is dark by day and
            bright at night, so that windows show it inverted.
    """
    height, width = dark.shape[2:]
    lamps = lamps.to(dark.device)
    colour = lamps.colour * lamps.brightness[..., None]
    bulbs = colour * (1 - lamps.window[..., None])
    sizes, shares = (lamps.size, 4 * lamps.size, 16 * lamps.size), (bulbs, 0.05 * bulbs, 0.006 * bulbs)
    light = _spots(lamps.centre, sizes, shares, height, width)
    panes = _panes(lamps.centre, lamps.size, colour * lamps.window[..., None], height, width)
    return light.addcmul_(panes, 0.1 + 0.9 * dark.float() ** 2).to(dark.dtype)


def _axes(centre: Tensor, height: int, width: int) -> tuple[Tensor, Tensor]:
    """Return distances to a light's centre along y [B,K,H] and x [B,K,W], in heights."""
    y = (torch.arange(height, device=centre.device) + 0.5) / height
    x = (torch.arange(width, device=centre.device) + 0.5) / height
    return y - centre[..., 1:], x - centre[..., :1] * (width / height)


def _spots(centre: Tensor, sizes: Sequence[Tensor], colours: Sequence[Tensor], height: int, width: int) -> Tensor:
    """Sum Gaussians about [B,K,2], several a light, of standard deviations [B,K,1 or 2] (x, y): [B,3,H,W]."""
    y, x = _axes(centre, height, width)
    along_y = torch.cat([torch.exp(-0.5 * (y / size[..., -1:]) ** 2) for size in sizes], 1)
    along_x = torch.cat([torch.exp(-0.5 * (x / size[..., :1]) ** 2) for size in sizes], 1)
    return _sum(along_y, along_x, torch.cat(list(colours), 1))


def _panes(centre: Tensor, size: Tensor, colour: Tensor, height: int, width: int) -> Tensor:
    y, x = _axes(centre, height, width)
    soft = max(_SOFT_EDGE, 0.5 / height)
    in_y = torch.sigmoid((size[..., 1:] - y.abs()) / soft)
    in_x = torch.sigmoid((size[..., :1] - x.abs()) / soft)
    return _sum(in_y, in_x, colour)


def _sum(along_y: Tensor, along_x: Tensor, colour: Tensor) -> Tensor:
    """Both profiles multiplied and summed over the lights: one matrix product a channel, no [B,K,H,W] in between."""
    left = (colour[..., None] * along_y[:, :, None]).permute(0, 2, 3, 1)  # [B,3,H,K]
    return left @ along_x[:, None]
