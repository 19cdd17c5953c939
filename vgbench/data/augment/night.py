"""Photographs by day made to look as taken at night: little light, lamps and lit windows, dark sky, a noisy sensor.

The order is that of a camera: what is lit (in linear light), blur, exposure, noise, colour cast, tone curve. Every
strength is drawn for each image, so that training meets dusk and midnight, phones and cameras for low light. Nothing
is fitted to one dataset.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Generator, Tensor

from vgbench.data.augment.lamps import Lamps, draw_lamps, emission, illumination
from vgbench.data.augment.noise import draw_offsets, normal_noise
from vgbench.data.augment.options import AugmentOptions

DISPLAY_GAMMA = 2.2
_GRAY = (0.2126, 0.7152, 0.0722)  # ITU-R BT.709 luminance, of linear light
_SKY_CELL = 4  # pixels a side of the cells in which sky is looked for
_EXPOSURE_STEPS, _EXPOSURE_STRIDE = 4, 8
_CHUNK = 8  # images at a time: a large batch needs no more memory, and a CPU's caches like it


@dataclass(frozen=True, eq=False)
class NightParameters:
    """What happens to B images; float32 [B] where nothing else is said.

    Attributes:
        applied: bool [B].
        ambient: light away from lamps, of a lamp's light 1.
        sky: part of its light that the sky loses.
        exposure: mean of the finished picture, 0..1.
        cast: [B,3], what red, green and blue are multiplied by in linear light.
        gray: part of the colour that is lost.
        blur: standard deviation, of the image's height.
        noise: standard deviation where the picture has its mean light, of that mean.
        grain: part of the noise's variance that is alike over a few pixels.
        gamma: power that the displayed values are raised to.
        offsets: int64 [B,4,2], where the noise comes from.
        lamps: what shines.
    """

    applied: Tensor
    ambient: Tensor
    sky: Tensor
    exposure: Tensor
    cast: Tensor
    gray: Tensor
    blur: Tensor
    noise: Tensor
    grain: Tensor
    gamma: Tensor
    offsets: Tensor
    lamps: Lamps

    def __getitem__(self, rows: Tensor) -> NightParameters:
        """Return the parameters of some images."""
        return NightParameters(*(getattr(self, field.name)[rows] for field in dataclasses.fields(self)))


def draw_night(options: AugmentOptions, count: int, generator: Generator) -> NightParameters:
    """Draw what happens to `count` images."""
    u = torch.rand(12, count, generator=generator)
    low, high = options.night_exposure
    dim, lit = options.night_ambient
    # Street light is warm, some of it green; moonlight and shop windows are cold.
    warm, green = options.night_tint * (1.3 * u[4] - 0.3), 0.4 * options.night_tint * u[5]
    cast = 2 ** torch.stack([warm / 2, green, -warm / 2], 1)
    return NightParameters(
        applied=u[0] < options.night,
        ambient=dim * (lit / dim) ** u[1],
        sky=options.night_sky * (1 - 0.5 * u[2] ** 2),
        exposure=low + (high - low) * u[3],
        cast=cast,
        gray=torch.where(u[6] < options.night_gray, 1.0, 0.6 * u[7]),
        blur=options.night_blur / 100 * u[8],
        noise=options.night_noise * u[9],
        grain=u[10],
        gamma=(1 + options.night_gamma) ** (2 * u[11] - 1),
        offsets=draw_offsets(count, 4, generator),
        lamps=draw_lamps(options, count, generator),
    )


def to_night(images: Tensor, parameters: NightParameters) -> Tensor:
    """Make night of those images, float [B,3,H,W] in 0..1, to which `parameters` apply."""
    rows = parameters.applied.nonzero().squeeze(1)
    if not len(rows):
        return images
    images = images.clone()
    for chunk in torch.split(rows, _CHUNK):
        chosen = chunk.to(images.device)
        images[chosen] = _night(images[chosen], parameters[chunk])
    return images


def _night(images: Tensor, parameters: NightParameters) -> Tensor:
    def of(value: Tensor) -> Tensor:
        return value.to(images).reshape(len(images), -1, 1, 1)

    height, width = images.shape[2:]
    dark = 1 - images.amax(1, keepdim=True)
    light = images**DISPLAY_GAMMA
    light *= 1 - of(parameters.sky) * find_sky(images)
    light *= illumination(parameters.lamps, height, width, images.device).add_(of(parameters.ambient))
    light += emission(parameters.lamps, dark)
    light = blur(light, parameters.blur * height)
    # In dim light colours fade, for sensors as for eyes.
    light.lerp_(luminance(light).expand_as(light), of(parameters.gray))
    light = expose(light, parameters.exposure.to(images), parameters.gamma.to(images))
    light = add_noise(light, parameters)
    # A camera that sees no colour has no cast either, nor noise in it.
    light *= torch.where(of(parameters.gray) < 1, of(parameters.cast), 1.0)
    return display(light, of(parameters.gamma))


def display(light: Tensor, gamma: Tensor) -> Tensor:
    """Return the pixels in 0..1 [B,3,H,W] that show linear light [B,3,H,W], bent by powers `gamma` [B,1,1,1]."""
    return light.clamp(0, 1).pow_(gamma / DISPLAY_GAMMA)


def luminance(light: Tensor) -> Tensor:
    """Return the luminance [B,1,H,W] of linear light [B,3,H,W]."""
    return (light * light.new_tensor(_GRAY)[:, None, None]).sum(1, keepdim=True)


def find_sky(images: Tensor) -> Tensor:
    """Guess where the sky is: bright, not red, smooth, and joined to the upper edge by its column.

    Args:
        images: float [B,3,H,W] in 0..1, by day.

    Returns:
        float [B,1,H,W], 0 (no sky) to 1.
    """
    height, width = images.shape[2:]
    cells = F.adaptive_avg_pool2d(images, (max(1, height // _SKY_CELL), max(1, width // _SKY_CELL)))
    red, green, blue = cells.unbind(1)
    gray = (red + green + blue) / 3
    rough = (F.max_pool2d(gray[:, None], 3, 1, 1) + F.max_pool2d(-gray[:, None], 3, 1, 1))[:, 0]
    likely = (
        torch.sigmoid((gray + 0.5 * (blue - red) - 0.55) / 0.05)
        * torch.sigmoid((blue - red + 0.06) / 0.02)
        * torch.sigmoid((0.25 - rough) / 0.04)
    )
    # Cells at the sky's border are rough: they are taken in again, and single pixels decide there. A dark pixel
    # next to the sky is a branch or a roof.
    joined = F.max_pool2d(likely.cummin(1).values[:, None], 5, 1, 2)
    sky = F.interpolate(joined, (height, width), mode="bilinear", align_corners=False)
    return sky * torch.sigmoid((images[:, 2:] - 0.45) / 0.06)


def blur(images: Tensor, sigma: Tensor) -> Tensor:
    """Blur float [B,3,H,W] with a Gaussian of its own standard deviation [B], in pixels, for each image."""
    radius = int((3 * sigma.max()).ceil())
    if radius == 0:
        return images
    count, channels, height, width = images.shape
    radius = min(radius, height - 1, width - 1)
    steps = torch.arange(-radius, radius + 1, dtype=torch.float32)
    weights = torch.exp(-0.5 * (steps / sigma.clamp(min=1e-3)[:, None]) ** 2)
    weights *= steps.abs() <= (3 * sigma).ceil()[:, None]  # an image's blur does not depend on its neighbours'
    weights = (weights / weights.sum(1, keepdim=True)).to(images).repeat_interleave(channels, 0)
    padded = F.pad(images, [radius] * 4, mode="reflect").reshape(1, count * channels, *_grown(height, width, radius))
    rows = F.conv2d(padded, weights[:, None, :, None], groups=count * channels)
    both = F.conv2d(rows, weights[:, None, None, :], groups=count * channels)
    return both.reshape(count, channels, height, width)


def _grown(height: int, width: int, radius: int) -> tuple[int, int]:
    return height + 2 * radius, width + 2 * radius


def expose(light: Tensor, mean: Tensor, gamma: Tensor) -> Tensor:
    """Scale linear light [B,3,H,W] so that the displayed picture has about the given mean [B], as far as it can.

    What shines brighter than white is cut off there, so the factor is found in a few steps, on every eighth pixel.
    """
    sample = light[:, :, ::_EXPOSURE_STRIDE, ::_EXPOSURE_STRIDE].flatten(1)
    power = (gamma / DISPLAY_GAMMA)[:, None]
    gain = torch.ones_like(mean)
    for _ in range(_EXPOSURE_STEPS):
        found = ((sample * gain[:, None]).clamp(0, 1) ** power).mean(1).clamp(min=1e-4)
        gain = (gain * (mean / found) ** (1 / power[:, 0])).clamp(1e-3, 1e4)
    return light * gain[:, None, None, None]


def add_noise(light: Tensor, parameters: NightParameters) -> Tensor:
    """Add a sensor's noise to linear light [B,3,H,W]: it grows with the root of the light, and is there without any."""
    height, width = light.shape[2:]
    light = light.clamp(0, 1)
    mean = light.mean((1, 2, 3), keepdim=True)
    fine = normal_noise(parameters.offsets, height, width, light.device).to(light.dtype)
    coarse = normal_noise(parameters.offsets[:, :1], height, width, light.device, coarse=True).to(light.dtype)
    grain, noise = (value.to(light)[:, None, None, None] for value in (parameters.grain, parameters.noise))
    shared = ((1 - grain).sqrt() * fine[:, :1]).addcmul_(grain.sqrt(), coarse)
    coloured = (parameters.gray < 1).to(light)[:, None, None, None]
    mixed = (0.6 * coloured * fine[:, 1:]).add_((1 - 0.36 * coloured).sqrt() * shared)
    deviation = (0.85 * light).add_(0.15 * mean).mul_(noise**2 * mean).sqrt_()
    return light.addcmul_(deviation, mixed)
