"""Flat things that turn to the camera: trees, lamp posts, signs, bollards, people."""

from __future__ import annotations

import functools
import math

import numpy as np
from numpy.typing import NDArray
from PIL import Image as Pillow
from PIL import ImageDraw

from datasets_vg.synthetic_city.camera import Floats, Frame
from datasets_vg.synthetic_city.pool import pyramid
from vgbench.randomness import numpy_stream

Sprite = list[NDArray[np.uint8]]

TREE_ROWS = 256
TREE_SHAPES = 6
TREE_ASPECT = 0.82
_LEVELS = 6


def draw_sprite(
    frame: Frame,
    sprite: Sprite,
    place: tuple[float, float],
    size: tuple[float, float],
    light: Floats,
    mirrored: bool = False,
) -> None:
    """Stand a sprite on the ground and blend it in where it is nearer than what is there.

    Args:
        place: metres to the right and ahead of the camera.
        size: width and height, metres.
        light: RGB factor float32 [3].
    """
    camera, (aside, depth), (width, height) = frame.camera, place, size
    if depth < 1.0:
        return
    window = frame.window(
        camera.row_of(height, depth), camera.row_of(0, depth) + 1,
        camera.column_of(aside - width / 2, depth), camera.column_of(aside + width / 2, depth) + 1,
    )  # fmt: skip
    if window is None:
        return
    level = int(
        np.clip(math.log2(max(1e-6, sprite[0].shape[0] / height * depth / camera.focal)) + 0.3, 0, len(sprite) - 1)
    )
    picture = sprite[level]
    u = (camera.across[window[1]] * depth - aside) / width + 0.5
    v = (height - camera.height + camera.down[window[0]] * depth) / height
    u = 1 - u if mirrored else u
    columns = np.clip((u * picture.shape[1]).astype(np.int64), 0, picture.shape[1] - 1)
    rows = np.clip((v * picture.shape[0]).astype(np.int64), 0, picture.shape[0] - 1)
    part = picture[rows[:, None], columns[None, :]]
    part[(v < 0) | (v >= 1)] = 0
    part[:, (u < 0) | (u >= 1)] = 0
    cover = part[..., 3] > 110
    cover &= frame.depth[window] > depth
    frame.colour[window][cover] = part[cover][:, :3] * (light / 255)
    frame.depth[window][cover] = depth


@functools.lru_cache(maxsize=128)
def tree(shape: int, leaves: float, leaf_colour: tuple[float, float, float]) -> Sprite:
    """Return a tree with a share of its leaves: uint8 [256,h*TREE_ASPECT,4] and its halvings."""
    rng = numpy_stream(0, "tree", shape)
    size = (int(TREE_ROWS * TREE_ASPECT), TREE_ROWS)
    picture = Pillow.new("RGBA", size)
    draw = ImageDraw.Draw(picture)
    tips: list[tuple[float, float]] = []
    _branch(draw, rng, (size[0] / 2, size[1] - 1), -math.pi / 2, 62.0, 9.0, tips)
    canvas = np.asarray(picture).copy()
    points = np.array(tips)
    crown = np.repeat(points, 7, axis=0) + rng.normal(0, 9.5, (len(points) * 7, 2))
    middle = crown.mean(0)
    keep = rng.random(len(crown)) < leaves * 0.9
    shade = np.clip(0.92 - 0.0042 * (crown[:, 1] - middle[1]) - 0.0018 * (crown[:, 0] - middle[0]), 0.4, 1.5)
    shade = shade * rng.uniform(0.65, 1.3, len(crown))
    radius = rng.uniform(2.0, 4.6, len(crown))
    leafy = Pillow.fromarray(canvas)
    draw = ImageDraw.Draw(leafy)
    hue = np.array(leaf_colour) * 255
    for i in np.flatnonzero(keep):
        (cx, cy), r = crown[i], radius[i]
        red, green, blue = np.clip(hue * shade[i] * (1, 1, 0.9), 0, 255).astype(int).tolist()
        draw.ellipse((cx - r, cy - r * 0.8, cx + r, cy + r * 0.8), fill=(red, green, blue, 255))
    return _mips(leafy)


def _branch(
    draw: ImageDraw.ImageDraw, rng: np.random.Generator, start: tuple[float, float], angle: float, length: float, width: float,
    tips: list[tuple[float, float]],
) -> None:  # fmt: skip
    end = (start[0] + math.cos(angle) * length, start[1] + math.sin(angle) * length)
    tone = int(rng.integers(70, 95))
    draw.line((*start, *end), fill=(tone, tone - 12, tone - 25, 255), width=max(1, round(width)))
    if length < 20:
        tips.append(end)
    if length < 9:
        return
    for _ in range(3 if length < 45 else 4):
        turn = rng.normal(0, 0.55)
        _branch(
            draw,
            rng,
            end,
            angle + turn - 0.08 * math.sin(angle + math.pi / 2),
            length * rng.uniform(0.55, 0.8),
            width * 0.58,
            tips,
        )


def _mips(picture: Pillow.Image) -> Sprite:
    array = np.asarray(picture.convert("RGBA")).copy()
    opaque = array[..., 3] > 0
    array[~opaque, :3] = array[opaque, :3].mean(0) if opaque.any() else 0  # so that halving does not darken the rim
    out = [array]
    for level in pyramid(array, _LEVELS)[1:]:
        alpha = Pillow.fromarray(array[..., 3]).resize((level.shape[1], level.shape[0]), Pillow.Resampling.BOX)
        level[..., 3] = np.asarray(alpha)
        out.append(level)
    return out


@functools.cache
def lamp_post() -> Sprite:
    """Return a lamp post whose arm reaches to the right; 2.2 m wide, 6.5 m high."""
    picture = Pillow.new("RGBA", (88, 260))
    draw = ImageDraw.Draw(picture)
    iron = (52, 56, 56, 255)
    draw.rectangle((42, 14, 46, 259), fill=iron)
    draw.rectangle((40, 215, 48, 259), fill=iron)
    draw.line((44, 15, 84, 8), fill=iron, width=4)
    draw.rectangle((66, 5, 87, 11), fill=(120, 120, 112, 255))
    return _mips(picture)


LAMP_SIZE = (2.2, 6.5)
LAMP_REACH = 0.85
POST_SIZES = ((0.75, 2.9), (0.22, 0.95), (0.55, 1.05), (0.75, 1.6))


@functools.cache
def post(kind: int) -> Sprite:
    """Return a piece of street furniture: 0 traffic sign, 1 bollard, 2 litter bin, 3 post box."""
    width, height = POST_SIZES[kind]
    size = (max(12, int(width * 80)), int(height * 80))
    picture = Pillow.new("RGBA", size)
    draw = ImageDraw.Draw(picture)
    w, h = size
    if kind == 0:
        draw.rectangle((w // 2 - 3, 10, w // 2 + 3, h), fill=(120, 122, 124, 255))
        draw.ellipse((2, 2, w - 3, w - 3), fill=(190, 30, 30, 255))
        draw.ellipse((10, 10, w - 11, w - 11), fill=(235, 235, 230, 255))
    elif kind == 1:
        draw.rounded_rectangle((1, 2, w - 2, h), 5, fill=(45, 45, 48, 255))
        draw.rectangle((1, 14, w - 2, 22), fill=(220, 220, 215, 255))
    elif kind == 2:
        draw.rounded_rectangle((2, 4, w - 3, h), 6, fill=(40, 70, 50, 255))
        draw.rectangle((8, 18, w - 9, 28), fill=(12, 14, 12, 255))
    else:
        draw.rounded_rectangle((3, 2, w - 4, h), 12, fill=(170, 36, 32, 255))
        draw.rectangle((12, 36, w - 13, 42), fill=(20, 10, 10, 255))
    return _mips(picture)


PEOPLE = 8


@functools.cache
def person(kind: int) -> Sprite:
    """Return a passer-by, 0.62 m wide and 1.74 m high."""
    rng = numpy_stream(0, "person", kind)
    picture = Pillow.new("RGBA", (62, 174))
    draw = ImageDraw.Draw(picture)
    coat, legs, skin = (
        tuple(int(c) for c in rng.integers(low, high, 3)) for low, high in ((25, 190), (20, 90), (120, 200))
    )
    stride = int(rng.integers(3, 14))
    draw.line((30, 92, 30 - stride, 172), fill=(*legs, 255), width=13)
    draw.line((32, 92, 32 + stride, 172), fill=(*legs, 255), width=13)
    draw.rounded_rectangle((15, 30, 46, 104), 11, fill=(*coat, 255))
    draw.line((16, 40, 12, 92), fill=tuple(int(c * 0.85) for c in coat) + (255,), width=9)
    draw.line((45, 40, 50, 92), fill=tuple(int(c * 0.85) for c in coat) + (255,), width=9)
    draw.ellipse((21, 3, 41, 29), fill=(skin[0], int(skin[0] * 0.8), int(skin[0] * 0.66), 255))
    draw.pieslice((20, 1, 42, 28), 180, 360, fill=tuple(int(c) for c in rng.integers(15, 110, 3)) + (255,))
    return _mips(picture)
