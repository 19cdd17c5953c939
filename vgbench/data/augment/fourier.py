"""Fourier domain adaptation (FDA; Yang and Soatto, 2020): the low-frequency amplitude of another domain's images."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import torch
from torch import Generator, Tensor

from vgbench.data.loader import image_loader
from vgbench.data.unlabelled import read_unlabelled

_BATCH, _WORKERS = 16, 8


class TargetStyles:
    """The amplitudes of a folder of unlabelled images at low frequencies; the images themselves are not kept.

    They are decoded once, when the size of the training images is known. An image takes 3 (2b + 1) (b + 1) float32
    numbers, where b is `band_of`'s: half a kilobyte at beta 0.01 and 480x640.

    Args:
        folder: any layout, see `read_unlabelled`.
        beta: half the band's width, of the image's shorter side.
        most: images at most, which bounds time and memory.

    Raises:
        UserError: no folder, or no readable image in it.
    """

    def __init__(self, folder: Path, beta: float, most: int) -> None:
        self.beta = beta
        self.table = read_unlabelled(folder, "--fda_folder", most)
        self._size: tuple[int, int] | None = None
        self._amplitudes = torch.empty(0)

    def __len__(self) -> int:
        return len(self.table)

    def amplitudes(self, size: tuple[int, int], device: torch.device) -> Tensor:
        """Return the amplitudes, float32 [N,3,2b+1,b+1], of the folder's images brought to (height, width)."""
        if self._size != size or self._amplitudes.device != device:
            band = band_of(self.beta, *size)
            rows = np.arange(len(self.table), dtype=np.int64)
            loader = image_loader(self.table, rows, size=size, batch_size=_BATCH, num_workers=_WORKERS)
            parts = [low_frequencies(images.to(device).float() / 255, band).abs() for images, _ in loader]
            self._amplitudes, self._size = torch.cat(parts), size
        return self._amplitudes


def draw_styles(probability: float, targets: int, count: int, generator: Generator) -> Tensor:
    """Draw which target each of `count` images takes the amplitude of: int64 [count], -1 for none."""
    chosen = torch.randint(targets, (count,), generator=generator)
    return torch.where(torch.rand(count, generator=generator) < probability, chosen, -1)


def band_of(beta: float, height: int, width: int) -> int:
    """Return b: frequencies from -b to b along both axes belong to the band."""
    return min(math.floor(beta * min(height, width)), (min(height, width) - 1) // 2)


def exchange_amplitude(images: Tensor, styles: Tensor, amplitudes: Tensor) -> Tensor:
    """Give images the low-frequency amplitude of targets, and leave phase and higher frequencies alone.

    Args:
        images: float [B,3,H,W] in 0..1.
        styles: int64 [B], rows of `amplitudes`, -1 for images that stay as they are.
        amplitudes: float [N,3,2b+1,b+1], of `TargetStyles`.

    Returns:
        float [B,3,H,W], clipped to 0..1.
    """
    rows = (styles >= 0).nonzero().squeeze(1)
    if not len(rows):
        return images
    wanted = amplitudes[styles[rows].to(amplitudes.device)]
    rows = rows.to(images.device)
    chosen = images[rows]
    own = low_frequencies(chosen, wanted.shape[-1] - 1)
    change = wanted.to(chosen.dtype) * own.sgn() - own
    height, width = images.shape[2:]
    return images.index_copy(0, rows, (chosen + _spatial(change, height, width)).clamp_(0, 1))


def low_frequencies(images: Tensor, band: int) -> Tensor:
    """Return the discrete Fourier transform of real [...,H,W] at frequencies 0..b, -b..-1 (y) and 0..b (x).

    That is a corner of `rfft2`, here as two thin matrix products, which cost a fraction of the whole transform.

    Returns:
        complex [...,2b+1,b+1].
    """
    along_y, along_x = _waves(images, band)
    return along_y @ (images.to(along_x.dtype) @ along_x)


def _spatial(spectrum: Tensor, height: int, width: int) -> Tensor:
    """Return the real [...,height,width] whose transform is `spectrum` in the band and 0 elsewhere."""
    band = spectrum.shape[-1] - 1
    real = torch.empty((height, width), dtype=spectrum.real.dtype, device=spectrum.device)
    along_y, along_x = _waves(real, band)
    # A real image's negative frequencies along x are the conjugates of the positive ones.
    twice = torch.where(torch.arange(band + 1, device=spectrum.device) > 0, 2, 1) / (height * width)
    rows = along_y.mH @ (spectrum * twice)
    return rows.real @ along_x.real.mT + rows.imag @ along_x.imag.mT


def _waves(images: Tensor, band: int) -> tuple[Tensor, Tensor]:
    """Return exp(-2 pi i f y / H) as [2b+1,H] and exp(-2 pi i f x / W) as [W,b+1]."""
    height, width = images.shape[-2:]
    f = torch.arange(band + 1, dtype=torch.float64)
    both = torch.cat([f, -f[1:].flip(0)])
    turns_y = both[:, None] * torch.arange(height, dtype=torch.float64) / height
    turns_x = torch.arange(width, dtype=torch.float64)[:, None] * f / width
    kind = torch.complex128 if images.dtype == torch.float64 else torch.complex64
    wave_y, wave_x = (torch.polar(torch.ones_like(turns), -2 * math.pi * turns) for turns in (turns_y, turns_x))
    return wave_y.to(images.device, kind), wave_x.to(images.device, kind)
