"""Colour of images: brightness, contrast, saturation, hue, sharpness, gamma and gain, each image its own."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Generator, Tensor

from vgbench.data.augment.options import AugmentOptions

_GRAY = (0.2989, 0.587, 0.114)  # ITU-R BT.601 luma


@dataclass(frozen=True, eq=False)
class ColourParameters:
    """What happens to the colours of B images.

    Attributes:
        factors: float32 [B,4], of brightness, contrast, saturation (1 = as it is) and hue (turns, 0 = as it is).
        order: int64 [B,4], in which order an image meets the four.
    """

    factors: Tensor
    order: Tensor


def draw_colour(options: AugmentOptions, count: int, generator: Generator) -> ColourParameters:
    """Draw factors from [max(0, 1 - v), 1 + v], hue turns from [-v, v], and orders, for `count` images."""
    spread = torch.tensor([options.brightness, options.contrast, options.saturation, options.hue])
    low = torch.tensor([1.0, 1.0, 1.0, 0.0]) - spread
    low[:3].clamp_(min=0)
    high = torch.tensor([1.0, 1.0, 1.0, 0.0]) + spread
    factors = low + (high - low) * torch.rand(count, 4, generator=generator)
    return ColourParameters(factors, torch.rand(count, 4, generator=generator).argsort(1))


def jitter_colour(images: Tensor, parameters: ColourParameters) -> Tensor:
    """Change brightness, contrast, saturation and hue of float [B,3,H,W] in 0..1, each image in its own order."""
    operations: tuple[Callable[[Tensor, Tensor], Tensor], ...] = (_brightness, _contrast, _saturation, _hue)
    images = images.clone()
    factors = parameters.factors.to(images.device)[:, :, None, None, None]
    for step in range(len(operations)):
        for index, operation in enumerate(operations):
            rows = (parameters.order[:, step] == index).nonzero().squeeze(1)
            rows = rows[parameters.factors[rows, index] != (index != 3)].to(images.device)
            if len(rows):
                images[rows] = operation(images[rows], factors[rows, index])
    return images


def _blend(images: Tensor, other: Tensor | float, factor: Tensor) -> Tensor:
    return (factor * images + (1 - factor) * other).clamp_(0, 1)


def _gray(images: Tensor) -> Tensor:
    return (images * images.new_tensor(_GRAY)[:, None, None]).sum(1, keepdim=True)


def _brightness(images: Tensor, factor: Tensor) -> Tensor:
    return _blend(images, 0.0, factor)


def _contrast(images: Tensor, factor: Tensor) -> Tensor:
    return _blend(images, _gray(images).mean((2, 3), keepdim=True), factor)


def _saturation(images: Tensor, factor: Tensor) -> Tensor:
    return _blend(images, _gray(images), factor)


def _hue(images: Tensor, turns: Tensor) -> Tensor:
    """Turn the hue in the HSV hexcone (Smith, 1978)."""
    red, green, blue = images.unbind(1)
    value, darkest = images.amax(1), images.amin(1)
    chroma = value - darkest
    divisor = torch.where(chroma == 0, torch.ones_like(chroma), chroma)
    sixths = torch.where(
        value == red,
        (green - blue) / divisor,
        torch.where(value == green, 2 + (blue - red) / divisor, 4 + (red - green) / divisor),
    )
    sixths = (sixths + 6 * turns[:, 0]) % 6
    # Each channel falls from `value` by as much of the chroma as the hue is away from its own.
    sixth = (sixths[:, None] + images.new_tensor([5.0, 3.0, 1.0])[:, None, None]) % 6
    return value[:, None] - chroma[:, None] * torch.minimum(sixth, 4 - sixth).clamp(0, 1)


@dataclass(frozen=True, eq=False)
class ToneParameters:
    """What happens to sharpness and tone of B images.

    Attributes:
        sharpness: float32 [B]; 1 = as it is, 0 = smoothed.
        gamma: float32 [B], the power that values in 0..1 are raised to.
        gain: float32 [B], what values are multiplied by after that.
    """

    sharpness: Tensor
    gamma: Tensor
    gain: Tensor


def draw_tone(options: AugmentOptions, count: int, generator: Generator) -> ToneParameters:
    """Draw sharpness from [max(0, 1 - v), 1 + v], gamma from [1 / (1 + v), 1 + v] and gain from [2^-v, 2^v].

    Gamma and gain are uniform in their logarithm, so that brighter is as likely as darker.
    """
    uniform = torch.rand(count, 3, generator=generator)
    low = max(0.0, 1 - options.sharpness)
    spread = 2 * uniform - 1
    return ToneParameters(
        sharpness=low + (1 + options.sharpness - low) * uniform[:, 0],
        gamma=(1 + options.gamma) ** spread[:, 1],
        gain=2 ** (options.gain * spread[:, 2]),
    )


def change_tone(images: Tensor, parameters: ToneParameters) -> Tensor:
    """Sharpen or smooth float [B,3,H,W] in 0..1, then values become gain * value ** gamma, at most 1."""
    sharpness, gamma, gain = (
        value.to(images)[:, None, None, None] for value in (parameters.sharpness, parameters.gamma, parameters.gain)
    )
    if (parameters.sharpness != 1).any():
        images = _blend(images, _smoothed(images), sharpness)
    return (images**gamma * gain).clamp_(0, 1)


def _smoothed(images: Tensor) -> Tensor:
    """Return the mean of each pixel (weight 5) and its eight neighbours (1 each); the border stays."""
    kernel = torch.ones(3, 3, dtype=images.dtype, device=images.device)
    kernel[1, 1] = 5
    channels = images.shape[1]
    inner = F.conv2d(images, (kernel / kernel.sum()).expand(channels, 1, 3, 3), groups=channels)
    smooth = images.clone()
    smooth[:, :, 1:-1, 1:-1] = inner
    return smooth
