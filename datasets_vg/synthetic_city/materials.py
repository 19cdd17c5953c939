"""Tileable textures that everything is painted with: brick, plaster, stone, slate, foliage noise, clouds."""

from __future__ import annotations

import functools

import numpy as np
from numpy.typing import NDArray
from PIL import Image as Pillow

from vgbench.randomness import numpy_stream

Image = NDArray[np.float32]

PIXELS_PER_METRE = 20
TILE = 512


def noise(rng: np.random.Generator, shape: tuple[int, int], cells: int, octaves: int = 4) -> Image:
    """Return tileable fractal value noise float32 `shape`, mean about 0, spread about 1.

    Args:
        cells: lattice cells along each axis of the coarsest octave.
    """
    total = np.zeros(shape, np.float32)
    for octave in range(octaves):
        n = cells * 2**octave
        if n * 2 > min(shape):
            break
        lattice = rng.standard_normal((n, n)).astype(np.float32)
        ring = Pillow.fromarray(np.pad(lattice, 2, mode="wrap"))
        smooth = ring.resize(shape[::-1], Pillow.Resampling.BILINEAR, box=(2, 2, n + 2, n + 2))
        total += np.asarray(smooth) * np.float32(0.6**octave)
    field: Image = total / total.std()
    return field


@functools.cache
def material(name: str) -> Image:
    """Return the tile of a wall material: float32 [TILE,TILE] factors around 1; raises KeyError for another name."""
    rng = numpy_stream(0, "material", name)
    if name == "plaster":
        return (1 + 0.045 * noise(rng, (TILE, TILE), 4, 6) + 0.02 * rng.standard_normal((TILE, TILE))).astype(
            np.float32
        )
    if name == "brick":
        return _courses(rng, height=3, width=8, joint=0.8, spread=0.13)
    if name == "stone":
        return _courses(rng, height=13, width=26, joint=0.82, spread=0.05) * (1 + 0.03 * noise(rng, (TILE, TILE), 8, 6))
    if name == "slate":
        return _courses(rng, height=4, width=6, joint=0.75, spread=0.12)
    raise KeyError(name)


def _courses(rng: np.random.Generator, height: int, width: int, joint: float, spread: float) -> Image:
    """Return running-bond courses of blocks `height` x `width` pixels with one-pixel joints."""
    rows, columns = np.mgrid[0:TILE, 0:TILE]
    course = rows // height
    shifted = (columns + (course % 2) * (width // 2)) % TILE
    shades = 1 + spread * rng.standard_normal((TILE // height + 1, TILE // width + 1))
    tile = shades[course, shifted // width].astype(np.float32)
    if height > 3:
        tile[rows % height == 0] *= joint
    tile[shifted % width == 0] *= joint
    tile += 0.02 * rng.standard_normal((TILE, TILE))
    textured: Image = tile.astype(np.float32)
    return textured


def crop(tile: Image, rng: np.random.Generator, height: int, width: int) -> Image:
    """Cut `height` x `width` out of a tile at a random place, wrapping around."""
    top, left = rng.integers(0, TILE, 2)
    rows = (top + np.arange(height)) % TILE
    columns = (left + np.arange(width)) % TILE
    piece: Image = tile[rows[:, None], columns[None, :]]
    return piece


@functools.cache
def ground_noise() -> Image:
    """Return the tile of stains and patches on roads and pavements: float32 [TILE,TILE], spread about 1."""
    rng = numpy_stream(0, "material", "ground")
    return 0.7 * noise(rng, (TILE, TILE), 4, 6) + 0.7 * rng.standard_normal((TILE, TILE)).astype(np.float32)


@functools.cache
def grain() -> Image:
    """Return a tile of sensor noise float32 [TILE,TILE,3], spread about 1, mostly the same in the three channels."""
    rng = numpy_stream(0, "material", "grain")
    own, common = rng.standard_normal((TILE, TILE, 3), np.float32), rng.standard_normal((TILE, TILE, 1), np.float32)
    return 0.55 * own + 0.8 * common


@functools.cache
def clouds(day: int) -> Image:
    """Return a tileable cloud cover float32 [TILE,TILE], spread about 1, one for each day."""
    return noise(numpy_stream(0, "clouds", day), (TILE, TILE), 5, 7)
