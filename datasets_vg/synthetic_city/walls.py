"""Cast one ray a column at the walls, then look the pixels up in their painted fronts."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from datasets_vg.synthetic_city.camera import Camera, Floats, Frame
from datasets_vg.synthetic_city.facade import ALWAYS_LIT, paint, paint_party_wall
from datasets_vg.synthetic_city.light import Light
from datasets_vg.synthetic_city.materials import PIXELS_PER_METRE
from datasets_vg.synthetic_city.plan import SKYLINE_SAMPLES, District, Front
from datasets_vg.synthetic_city.pool import LEVELS, TexturePool

SIGHT = 190.0
"""Metres beyond which houses are lost in the haze."""
HAZE = 420.0
MAX_LAYERS = 9
LIT_SHARE = 0.38


@dataclass
class Hits:
    """What the columns see, nearest wall first: arrays [layers, columns].

    Attributes:
        wall: row into `fronts`; depth: metres (inf where there is none); along: 0..1 from the left end of the wall;
        top: row above which the next layer shows.
    """

    fronts: list[Front]
    wall: NDArray[np.int64]
    depth: Floats
    along: Floats
    top: Floats
    height: Floats
    normal: Floats


def cast(district: District, camera: Camera) -> Hits | None:
    """Find the walls each column sees; None where there is no wall in sight."""
    fronts, ends, height, skyline = _near(district, camera)
    if not fronts:
        return None
    left_x, left_d = camera.relative(ends[:, 0], ends[:, 1])
    right_x, right_d = camera.relative(ends[:, 2], ends[:, 3])
    step_x, step_d = right_x - left_x, right_d - left_d
    facing = left_x * step_d - left_d * step_x < 0  # the others turn their backs
    edge = camera.across[-1]
    seen = facing & (np.maximum(left_d, right_d) > 0.1)
    seen &= ~((left_x > edge * left_d) & (right_x > edge * right_d)) & ~(
        (left_x < -edge * left_d) & (right_x < -edge * right_d)
    )
    rows = np.flatnonzero(seen)
    if rows.size == 0:
        return None
    left_x, left_d, step_x, step_d = (a[rows, None] for a in (left_x, left_d, step_x, step_d))
    s = camera.across[None, :]
    with np.errstate(divide="ignore", invalid="ignore"):
        along = (s * left_d - left_x) / (step_x - s * step_d)
        depth = left_d + along * step_d
    depth[~((along >= 0) & (along < 1) & (depth > 0.3))] = np.inf
    normal = np.stack([ends[rows, 3] - ends[rows, 1], ends[rows, 0] - ends[rows, 2]], 1)
    normal /= np.maximum(np.hypot(normal[:, 0], normal[:, 1]), 1e-6)[:, None]
    distances: Floats = depth.astype(np.float32)
    share: Floats = along.astype(np.float32)
    return _layers(camera, [fronts[r] for r in rows], distances, share, height[rows], skyline[rows], normal)


def _near(district: District, camera: Camera) -> tuple[list[Front], Floats, Floats, Floats]:
    fronts: list[Front] = []
    ends, height, skyline = (
        [np.empty((0, 4), np.float32)],
        [np.empty(0, np.float32)],
        [np.empty((0, SKYLINE_SAMPLES), np.float32)],
    )
    for i, j in _blocks_in_sight(district, camera):
        walls = district.block(i, j)
        fronts += walls.fronts
        ends.append(walls.ends)
        height.append(walls.height)
        skyline.append(walls.skyline)
    return fronts, np.concatenate(ends), np.concatenate(height), np.concatenate(skyline)


def _blocks_in_sight(district: District, camera: Camera) -> list[tuple[int, int]]:
    forward = camera.forward
    x, y = district.axes[0], district.axes[1]
    columns = np.flatnonzero((x[1:] > camera.x - SIGHT) & (x[:-1] < camera.x + SIGHT))
    rows = np.flatnonzero((y[1:] > camera.y - SIGHT) & (y[:-1] < camera.y + SIGHT))
    found = []
    for i in columns:
        for j in rows:
            ahead = max(
                (cx - camera.x) * forward[0] + (cy - camera.y) * forward[1]
                for cx in (x[i], x[i + 1]) for cy in (y[j], y[j + 1])
            )  # fmt: skip
            if ahead > 0:
                found.append((int(i), int(j)))
    return found


def _layers(
    camera: Camera, fronts: list[Front], depth: Floats, along: Floats, height: Floats, skyline: Floats, normal: Floats
) -> Hits:
    columns = np.arange(camera.columns)
    top = np.full(camera.columns, np.inf, np.float32)
    found: list[tuple[NDArray[np.int64], Floats, Floats, Floats]] = []
    middle, focal = np.float32(camera.horizon * camera.rows), np.float32(camera.focal)
    for _ in range(MAX_LAYERS):
        wall = depth.argmin(axis=0)
        t = depth[wall, columns]
        if not np.isfinite(t).any():
            break
        k = np.clip(np.nan_to_num(along[wall, columns]), 0, 1)
        z = skyline[wall, np.minimum((k * SKYLINE_SAMPLES).astype(np.int64), SKYLINE_SAMPLES - 1)]
        here = np.where(np.isfinite(t), middle - (z - np.float32(camera.height)) / t * focal, np.inf)
        top = np.minimum(top, here).astype(np.float32)
        found.append((wall, t, k, top))
        depth[wall, columns] = np.inf
    wall, t, k, tops = (np.stack(parts) for parts in zip(*found, strict=True))
    return Hits(fronts, wall, t, k, tops, height, normal)


def draw(frame: Frame, hits: Hits, pool: TexturePool, light: Light, shadow: Floats) -> NDArray[np.bool_]:
    """Paint the walls into the frame; returns where something shines by itself, bool [rows,columns].

    Args:
        shadow: height (m) up to which each wall of `hits` lies in the shadow of the houses across the street.
    """
    camera = frame.camera
    layer = np.zeros(frame.depth.shape, np.int16)
    row_numbers = (np.arange(camera.rows, dtype=np.float32) + 0.5)[:, None]
    for top in hits.top:
        layer += row_numbers < top[None, :]
    count, columns = hits.wall.shape
    foot = camera.height / hits.depth[0] * camera.focal + camera.horizon * camera.rows
    pixel = np.flatnonzero((layer < count) & (row_numbers < foot[None, :]))
    row, column = np.divmod(pixel, columns)
    m = layer.ravel()[pixel].astype(np.int64) * columns + column
    finite = np.isfinite(hits.depth.ravel()[m])
    pixel, row, m = pixel[finite], row[finite], m[finite]
    down = camera.down[row]
    texel, z = _texels(hits, camera, pool, m, down)
    frame.depth.ravel()[pixel] = hits.depth.ravel()[m]
    colour, shining = _shade(texel, z, m, hits, light, shadow)
    frame.colour.reshape(-1, 3)[pixel] = colour
    glow = np.zeros(frame.depth.shape, bool)
    glow.ravel()[pixel] = shining
    return glow


def _texels(
    hits: Hits, camera: Camera, pool: TexturePool, m: NDArray[np.int64], down: Floats
) -> tuple[NDArray[np.uint8], Floats]:
    """Look pixels up: texels uint8 [n,4] and heights above the ground float32 [n]."""
    seen = np.zeros(hits.wall.size, bool)
    seen[m] = True
    used = np.unique(hits.wall.ravel()[seen])
    compact = np.zeros(len(hits.fronts), np.int64)
    compact[used] = np.arange(used.size)
    fronts = [hits.fronts[i] for i in used]
    places = pool.require(
        [f.key for f in fronts],
        lambda i: (
            paint_party_wall(fronts[i].house, fronts[i].width)
            if fronts[i].blank
            else paint(fronts[i].house, fronts[i].width)
        ),
    )
    wall = hits.wall.ravel()
    depth = np.where(np.isfinite(hits.depth), hits.depth, 1).ravel()
    level = np.clip(np.log2(depth * (PIXELS_PER_METRE / camera.focal)) + 0.35, 0, LEVELS - 1).astype(np.int64)
    offset, rows, width = (places[compact[wall], level, i].astype(np.int32) for i in range(3))
    scale = (PIXELS_PER_METRE * 0.5**level).astype(np.float32)
    first = offset + np.minimum((hits.along.ravel() * width).astype(np.int32), width - 1)
    base = (hits.height[wall] - np.float32(camera.height)) * scale
    fall = depth * scale
    v = (base[m] + fall[m] * down).astype(np.int32)
    v = np.clip(v, 0, rows[m] - 1)
    z = np.float32(camera.height) - depth[m] * down
    return pool.take(first[m] + v * width[m]), z


def _shade(
    texel: NDArray[np.uint8], z: Floats, m: NDArray[np.int64], hits: Hits, light: Light, shadow: Floats
) -> tuple[Floats, NDArray[np.bool_]]:
    wall = hits.wall.ravel()
    sun = light.sun_direction
    slant = np.maximum(hits.normal @ np.array(sun[:2], np.float32), 0)
    depth = hits.depth.ravel()
    clear = np.exp(-np.minimum(depth, 1e4) / HAZE).astype(np.float32)[:, None]
    # Walls that face different ways differ a little under a clouded sky too.
    tone = (0.90 + 0.07 * hits.normal[:, 0] + 0.05 * hits.normal[:, 1]).astype(np.float32)
    # One row of factors for each column and layer in shadow, then the same in the sun.
    shaded = clear * tone[wall][:, None] * np.array(light.ambient, np.float32)
    sunlit = shaded + clear * slant[wall][:, None] * np.array(light.sun_colour, np.float32)
    factors = np.concatenate([shaded, sunlit]) * np.float32(1 / 255)
    colour = texel[:, :3] * factors.take(m + (z > shadow[wall][m]) * len(shaded), axis=0)
    shining = np.zeros(len(m), bool)
    if light.night:
        shining = _lit(texel[:, 3], light.day)
        bright = np.minimum(texel[shining, :3] * np.float32(1 / 255) + 0.35, 1)
        warmth = 0.55 + 0.4 * ((texel[shining, 3].astype(np.float32) * 7) % 50) / 50
        colour[shining] = bright * (warmth[:, None] * clear[m[shining]]) * np.array((1.0, 0.82, 0.52), np.float32)
    veil = (1 - clear) * np.array(light.sky[1], np.float32) * np.float32(0.6 if light.night else 0.9)
    colour += veil.take(m, axis=0)
    return colour, shining


def _lit(lamp: NDArray[np.uint8], day: int) -> NDArray[np.bool_]:
    """Return which texels shine at night: shop windows and signs, and the windows that the day's lot falls on."""
    levels = np.arange(256)
    lot = (levels > 0) & ((levels * 73 + day * 57) % 251 < 251 * LIT_SHARE)
    lot[ALWAYS_LIT] = True
    return lot[lamp]
