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

TREE_ROWS = 384
TREE_SHAPES = 6
TREE_ASPECT = 0.95
BARK = (0.36, 0.31, 0.26)
_LEVELS = 6


def draw_sprite(
    frame: Frame,
    sprite: Sprite,
    place: tuple[float, float],
    size: tuple[float, float],
    light: Floats,
    mirrored: bool = False,
    palette: Floats | None = None,
) -> None:
    """Stand a sprite on the ground and blend it in where it is nearer than what is there.

    Args:
        place: metres to the right and ahead of the camera.
        size: width and height, metres.
        light: RGB factor float32 [3].
        palette: float32 [2,3], for a sprite whose first two channels are shares of two colours.
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
    texel = part[cover]
    albedo = texel[:, :3] if palette is None else texel[:, :1] * palette[0] + texel[:, 1:2] * palette[1]
    frame.colour[window][cover] = albedo * (light / 255)
    frame.depth[window][cover] = depth


@functools.cache
def tree(shape: int, leaves: float) -> Sprite:
    """Return a tree with a share of its leaves: uint8 [TREE_ROWS,w,4] (leaf, bark, 0, cover) and its halvings."""
    rng = numpy_stream(0, "tree", shape)
    size = (int(TREE_ROWS * TREE_ASPECT), TREE_ROWS)
    picture = Pillow.new("RGBA", size)
    draw = ImageDraw.Draw(picture)
    tips: list[tuple[float, float]] = []
    _branch(draw, rng, (size[0] / 2, size[1] - 1), -math.pi / 2, 92.0, 12.0, tips)
    crown = np.repeat(np.array(tips), 8, axis=0) + rng.normal(0, 11.0, (len(tips) * 8, 2))
    middle = crown.mean(0)
    light = 165 - 0.55 * (crown[:, 1] - middle[1]) - 0.25 * (crown[:, 0] - middle[0])
    light = np.clip(light * rng.uniform(0.6, 1.25, len(crown)), 50, 255).astype(int).tolist()
    radius = rng.uniform(2.0, 5.0, len(crown))
    kept = rng.random(len(crown)) < leaves
    corners = np.column_stack([crown - radius[:, None], crown + radius[:, None]]).tolist()
    for i in np.flatnonzero(kept).tolist():
        draw.ellipse(corners[i], fill=(light[i], 0, 0, 255))
    return _mips(picture)


def _branch(
    draw: ImageDraw.ImageDraw, rng: np.random.Generator, start: tuple[float, float], angle: float, length: float,
    width: float, tips: list[tuple[float, float]],
) -> None:  # fmt: skip
    end = _within_crown(start[0] + math.cos(angle) * length, start[1] + math.sin(angle) * length)
    draw.line((*start, *end), fill=(0, int(rng.integers(120, 200)), 0, 255), width=max(1, round(width)))
    if length < 30:
        tips.append(end)
    if length < 13:
        return
    upwards = -0.08 * math.sin(angle + math.pi / 2)
    for _ in range(3 if length < 65 else 4):
        turned = angle + float(rng.normal(0, 0.55)) + upwards
        _branch(draw, rng, end, turned, length * float(rng.uniform(0.55, 0.78)), width * 0.58, tips)


def _within_crown(x: float, y: float) -> tuple[float, float]:
    """Draw a point into the ellipse that crowns keep to."""
    middle, high = TREE_ROWS * TREE_ASPECT / 2, TREE_ROWS * 0.38
    dx, dy = (x - middle) / (middle - 18), (y - high) / (high - 14)
    if dy > 0.6:  # the trunk
        return x, y
    shrink = 1 / max(1.0, math.hypot(dx, dy))
    return middle + (x - middle) * shrink, high + (y - high) * shrink


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
PERSON_SIZE = (0.62, 1.74)


@functools.cache
def person(kind: int) -> Sprite:
    """Return a passer-by, 0.62 m wide and 1.74 m high."""
    rng = numpy_stream(0, "person", kind)
    picture = Pillow.new("RGBA", (62, 174))
    draw = ImageDraw.Draw(picture)
    coat, legs, skin = (
        tuple(int(c) for c in rng.integers(low, high, 3)) for low, high in ((25, 190), (20, 90), (120, 200))
    )
    sleeve = (*(int(c * 0.85) for c in coat), 255)
    hair = (*(int(c) for c in rng.integers(15, 110, 3)), 255)
    stride = int(rng.integers(3, 14))
    draw.line((30, 92, 30 - stride, 172), fill=(*legs, 255), width=13)
    draw.line((32, 92, 32 + stride, 172), fill=(*legs, 255), width=13)
    draw.rounded_rectangle((15, 30, 46, 104), 11, fill=(*coat, 255))
    draw.line((16, 40, 12, 92), fill=sleeve, width=9)
    draw.line((45, 40, 50, 92), fill=sleeve, width=9)
    draw.ellipse((21, 3, 41, 29), fill=(skin[0], int(skin[0] * 0.8), int(skin[0] * 0.66), 255))
    draw.pieslice((20, 1, 42, 28), 180, 360, fill=hair)
    return _mips(picture)
