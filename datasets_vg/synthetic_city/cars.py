"""Cars as two convex solids each, a body and a cabin, met by one ray a pixel."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from datasets_vg.synthetic_city.camera import Floats, Frame
from datasets_vg.synthetic_city.light import Light

PAINTS = np.array(
    [(0.72, 0.73, 0.74), (0.12, 0.12, 0.13), (0.85, 0.85, 0.84), (0.35, 0.37, 0.40), (0.45, 0.08, 0.08),
     (0.10, 0.16, 0.34), (0.16, 0.28, 0.22), (0.55, 0.50, 0.42), (0.75, 0.55, 0.12), (0.25, 0.42, 0.52)], np.float32
)  # fmt: skip
PAINT_SHARES = np.array([0.2, 0.18, 0.17, 0.15, 0.08, 0.08, 0.04, 0.04, 0.03, 0.03])


@dataclass(frozen=True)
class Car:
    """One car: place and direction in local coordinates (m, radians), row into PAINTS, whether it is a van."""

    x: float
    y: float
    direction: float
    paint: int
    van: bool


@dataclass(frozen=True)
class _Solid:
    """A convex solid: plane normals float32 [6,3] in the car's axes (forward, left, up) and offsets [6]."""

    normals: Floats
    offsets: Floats


def _prism(low: tuple[float, float, float, float], high: tuple[float, float, float, float]) -> _Solid:
    """Return the solid between rear, front, half width, height below and the same above."""
    (r0, f0, w0, z0), (r1, f1, w1, z1) = low, high
    rise = z1 - z0
    planes = [
        ((rise, 0, f0 - f1), (f0, 0, z0)), ((-rise, 0, r1 - r0), (r0, 0, z0)),
        ((0, rise, w0 - w1), (0, w0, z0)), ((0, -rise, w0 - w1), (0, -w0, z0)),
        ((0, 0, 1), (0, 0, z1)), ((0, 0, -1), (0, 0, z0)),
    ]  # fmt: skip
    normals = np.array([n for n, _ in planes], np.float64)
    normals /= np.linalg.norm(normals, axis=1, keepdims=True)
    offsets = np.array([n @ np.array(p) for n, (_, p) in zip(normals, planes, strict=True)])
    return _Solid(normals.astype(np.float32), offsets.astype(np.float32))


_CAR = (
    _prism((-2.1, 2.1, 0.86, 0.05), (-2.05, 1.95, 0.84, 0.86)),
    _prism((-1.75, 1.05, 0.82, 0.86), (-1.25, 0.25, 0.64, 1.45)),
)
_VAN = (
    _prism((-2.5, 2.5, 0.95, 0.05), (-2.5, 2.45, 0.95, 1.05)),
    _prism((-2.5, 1.85, 0.95, 1.05), (-2.45, 1.2, 0.86, 2.1)),
)
SHADOW_REACH = (2.4, 1.15)


def draw_car(frame: Frame, car: Car, light: Light, lamp: float) -> None:
    """Draw a car where it is nearer than what is there; `lamp` is the street light that falls on it, 0..1."""
    camera = frame.camera
    aside, depth = camera.relative_point(car.x, car.y)
    near, far, height = max(depth - 2.7, 0.6), max(depth + 2.7, 0.7), 2.15 if car.van else 1.5
    left = min(camera.column_of(aside - 2.7, d) for d in (near, far))
    end = max(camera.column_of(aside + 2.7, d) for d in (near, far))
    top = min(camera.row_of(height, d) for d in (near, far))
    window = frame.window(top - 1, camera.row_of(0, near) + 1, left, end + 1)
    if window is None or frame.depth[window].max() < near:
        return
    for part, solid in enumerate(_VAN if car.van else _CAR):
        _draw_solid(frame, window, car, part, solid, light, lamp)


def _draw_solid(
    frame: Frame, window: tuple[slice, slice], car: Car, part: int, solid: _Solid, light: Light, lamp: float
) -> None:
    camera = frame.camera
    axes = np.array(
        ((math.cos(car.direction), math.sin(car.direction)), (-math.sin(car.direction), math.cos(car.direction)))
    )
    forward, right = axes @ np.array(camera.forward), axes @ np.array(camera.right)
    origin = np.array([*(axes @ np.array((camera.x - car.x, camera.y - car.y))), camera.height], np.float32)
    s, d = camera.across[window[1]][None, :], camera.down[window[0]][:, None]
    enter = np.zeros((d.size, s.size), np.float32)
    leave = np.full_like(enter, np.inf)
    face = np.zeros(enter.shape, np.int8)
    for i, (normal, offset) in enumerate(zip(solid.normals, solid.offsets, strict=True)):
        slope = (normal[:2] @ forward + s * (normal[:2] @ right)).astype(np.float32) - normal[2] * d
        gap = offset - float(normal @ origin)
        with np.errstate(divide="ignore", invalid="ignore"):
            t = np.float32(gap) / slope
        inward = slope < 0
        later = inward & (t > enter)
        enter[later], face[later] = t[later], i
        leave = np.where(inward, leave, np.minimum(leave, t))
        if gap < 0:
            leave[~inward] = -1.0  # outside this plane and moving away from it
    hit = (enter > 0.5) & (enter < leave) & (enter < frame.depth[window])
    if not hit.any():
        return
    t, which = enter[hit], face[hit]
    rows, columns = np.nonzero(hit)
    local = [origin[a] + t * (forward[a] + camera.across[window[1]][columns] * right[a]) for a in range(2)]
    z = origin[2] - t * camera.down[window[0]][rows]
    colour = _skin(car, part, which, local[0], local[1], z, light)
    shade = _shading(solid, car, light, lamp)[which]
    frame.colour[window][hit] = colour * shade
    frame.depth[window][hit] = t


def _shading(solid: _Solid, car: Car, light: Light, lamp: float) -> Floats:
    """Return the RGB factor of each face, float32 [6,3]."""
    c, s = math.cos(car.direction), math.sin(car.direction)
    n = solid.normals
    world = np.stack([c * n[:, 0] - s * n[:, 1], s * n[:, 0] + c * n[:, 1], n[:, 2]], 1)
    direct = (
        np.maximum(world @ np.array(light.sun_direction, np.float32), 0)
        if light.sun_direction[2] > 0
        else np.zeros(6, np.float32)
    )
    sky = 0.72 + 0.28 * n[:, 2]
    out = sky[:, None] * np.array(light.ambient) + 0.7 * direct[:, None] * np.array(light.sun_colour)
    out = out + lamp * np.array((1.0, 0.78, 0.5)) * (0.6 + 0.4 * n[:, 2:3])
    factor: Floats = out.astype(np.float32)
    return factor


def _skin(
    car: Car, part: int, which: NDArray[np.int8], along: Floats, aside: Floats, z: Floats, light: Light
) -> Floats:
    """Return the colour where rays meet the car, float32 [n,3]."""
    paint = PAINTS[car.paint]
    colour = np.tile(paint, (along.size, 1))
    glass = np.array((0.10, 0.12, 0.14), np.float32)
    flanks = (which == 2) | (which == 3)
    if part == 1:
        base, roof = (1.05, 2.1) if car.van else (0.86, 1.45)
        inside = (z > base + 0.06) & (z < roof - 0.09)
        pillar = (np.abs(along + 0.35) < 0.05) | (car.van & (along < 0.6))
        colour[inside & ((flanks & ~pillar) | (which < 2))] = glass + 0.25 * np.array(light.sky[0], np.float32)
        return colour
    ends = 1.55 if car.van else 1.32
    wheel = flanks & (np.minimum((along - ends) ** 2, (along + ends) ** 2) + (z - 0.32) ** 2 < 0.34**2)
    hub = flanks & (np.minimum((along - ends) ** 2, (along + ends) ** 2) + (z - 0.32) ** 2 < 0.18**2)
    colour[z < 0.24] = 0.03
    colour[wheel], colour[hub] = 0.06, 0.42
    colour[flanks & (np.abs(z - 0.55) < 0.03)] *= 0.75
    lamps = (which < 2) & (np.abs(aside) > 0.5) & (np.abs(z - 0.62) < 0.11)
    colour[lamps & (which == 0)] = (0.9, 0.9, 0.85)
    colour[lamps & (which == 1)] = (0.6, 0.06, 0.05)
    colour[(which < 2) & (np.abs(aside) < 0.26) & (np.abs(z - 0.42) < 0.07)] = (0.85, 0.84, 0.75)
    return colour
