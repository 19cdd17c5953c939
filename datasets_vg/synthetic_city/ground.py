"""Road, pavement, markings and grass by casting rays at the ground; the sky above; what the sun's shadows cover."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from datasets_vg.synthetic_city.camera import Floats, Frame
from datasets_vg.synthetic_city.light import Light
from datasets_vg.synthetic_city.materials import TILE, clouds, ground_noise
from datasets_vg.synthetic_city.plan import District
from datasets_vg.synthetic_city.walls import HAZE, Hits

MEAN_HOUSE = 13.0
_NOISE_METRES = 42.0


def draw_ground(frame: Frame, district: District, light: Light) -> None:
    """Paint every pixel below the horizon that no wall covers."""
    camera = frame.camera
    below = (camera.down > 1e-3)[:, None] & ~np.isfinite(frame.depth)
    pixel = np.flatnonzero(below)
    row, column = np.divmod(pixel, camera.columns)
    t = np.minimum(np.float32(camera.height) / camera.down[row], np.float32(900))
    across = camera.across[column] * t
    (fx, fy), (rx, ry) = camera.forward, camera.right
    x = np.float32(camera.x) + np.float32(fx) * t + np.float32(rx) * across
    y = np.float32(camera.y) + np.float32(fy) * t + np.float32(ry) * across
    albedo = _surface(district, x, y, t)
    albedo *= np.float32(1 - 0.45 * light.wet)
    sunny = ~_in_shadow(district, light, x, y) if light.sun_direction[2] > 0 else np.zeros(x.shape, bool)
    haze = 1 - np.exp(-t / HAZE)
    direct = sunny * np.float32(max(light.sun_direction[2], 0.0))
    factor = direct[:, None] * np.array(light.sun_colour, np.float32) + np.array(light.ambient, np.float32)
    colour = albedo * factor * (1 - haze)[:, None]
    colour += haze[:, None] * np.array(light.sky[1], np.float32) * (0.9 if not light.night else 0.6)
    frame.colour.reshape(-1, 3)[pixel] = colour
    frame.depth.ravel()[pixel] = t


def _surface(district: District, x: Floats, y: Floats, t: Floats) -> Floats:
    """Return the colour of the ground, float32 [n,3]."""
    from_axis, half, pave = [], [], []
    for lines, value in zip(district.ground, (x, y), strict=True):
        cell = lines.cell(value)
        from_axis.append(value - lines.middle[cell])
        half.append(lines.half[cell])
        pave.append(lines.pavement[cell])
    beyond = [np.abs(from_axis[d]) - half[d] for d in range(2)]
    outside = np.minimum(beyond[0], beyond[1])
    step = np.float32(TILE / _NOISE_METRES)
    stains = ground_noise()[(y * step).astype(np.int32) % TILE, (x * step).astype(np.int32) % TILE]
    stains = stains * np.clip(1.2 - t / 45, 0.15, 1)
    grey = np.where(outside < 0, np.float32(0.36), np.float32(0.56))
    grey = grey * (1 + 0.07 * stains)
    near = t < 18
    slabs = near & (outside > 0.3) & (((x * 1.6) % 1 < 0.05) | ((y * 1.6) % 1 < 0.05))
    grey[slabs] *= 0.82
    grey[(outside >= 0) & (outside < 0.22)] = 0.62
    grey[(outside >= -0.12) & (outside < 0)] = 0.20
    paint = _markings(from_axis, half, beyond, x, y)
    grey[paint] = 0.80 + 0.03 * stains[paint]
    albedo = grey[:, None] * np.array((1.0, 0.985, 0.96), np.float32)
    grass = (beyond[0] > pave[0]) & (beyond[1] > pave[1])
    albedo[grass] = (0.8 + 0.15 * stains[grass])[:, None] * np.array((0.28, 0.36, 0.16), np.float32)
    lit: Floats = albedo.astype(np.float32)
    return lit


def _markings(
    from_axis: list[Floats], half: list[Floats], beyond: list[Floats], x: Floats, y: Floats
) -> NDArray[np.bool_]:
    """Return where the road is painted: centre dashes, parking lines, zebra crossings before each junction."""
    painted = np.zeros(x.shape, bool)
    for along in range(2):  # streets whose axis `1 - along` is crossed: lines run in direction `along`
        aside, width, past, place = from_axis[1 - along], half[1 - along], beyond[along], (x, y)[along]
        on_road = beyond[1 - along] < -0.15
        painted |= on_road & (past > 6) & (np.abs(aside) < 0.09) & (place % 6 < 3)
        painted |= on_road & (past > 7) & (width > 3.5) & (np.abs(np.abs(aside) - width + 2.1) < 0.06)
        painted |= on_road & (past > 1.2) & (past < 4.2) & ((aside + 0.25) % 1.0 < 0.5)
    return painted


def _in_shadow(district: District, light: Light, x: Floats, y: Floats) -> NDArray[np.bool_]:
    """Return where the houses towards the sun keep it from the ground, as if all were of mean height."""
    sun = light.sun_direction
    reach = MEAN_HOUSE / max(sun[2], 1e-3)
    shaded = np.zeros(x.shape, bool)
    for share in (0.3, 0.6, 0.95):
        px, py = x + np.float32(sun[0] * reach * share), y + np.float32(sun[1] * reach * share)
        along_x, along_y = district.ground
        shaded |= along_x.built[along_x.cell(px)] & along_y.built[along_y.cell(py)]
    return shaded


def wall_shadow(district: District, hits: Hits, light: Light) -> Floats:
    """Return up to which height (m) the houses across the street shade each wall, float32 [walls]."""
    sun = light.sun_direction
    if sun[2] <= 0:
        return np.full(len(hits.fronts), np.inf, np.float32)
    facing = np.abs(hits.normal @ np.array(sun[:2], np.float32))
    direction = np.abs(hits.normal[:, 1]).round().astype(np.int64)
    width = np.empty(len(hits.fronts), np.float32)
    for d in range(2):
        middle = np.array([(f.left[d] + f.right[d]) / 2 for f in hits.fronts])
        nearest = np.abs(district.axes[d][None, :] - middle[:, None]).argmin(1)
        across = 2 * (district.road[d] + district.pavement[d])[nearest]
        width = np.where(direction == d, across, width)
    drop = width * sun[2] / np.maximum(facing, 0.05)
    return np.maximum(MEAN_HOUSE - drop, 0).astype(np.float32)


def draw_sky(frame: Frame, light: Light) -> None:
    """Paint what neither wall nor ground covers: a gradient, clouds on a flat ceiling, hills on the horizon."""
    camera = frame.camera
    pixel = np.flatnonzero(~np.isfinite(frame.depth))
    row, column = np.divmod(pixel, camera.columns)
    rise, across = -camera.down[row], camera.across[column]
    zenith, horizon = (np.array(c, np.float32) for c in light.sky)
    blend = np.clip(rise * 1.6, 0, 1)[:, None]
    colour = horizon + (zenith - horizon) * np.sqrt(blend)
    (fx, fy), (rx, ry) = camera.forward, camera.right
    ceiling = 90 / (rise + 0.12)
    u = ((fx + across * rx) * ceiling + 31 * light.day).astype(np.int32) % TILE
    v = ((fy + across * ry) * ceiling).astype(np.int32) % TILE
    cover = np.clip((clouds(light.day % 8)[v, u] + 4 * light.cloud - 2.0) * 0.8, 0, 1)[:, None]
    white = np.array((0.93, 0.93, 0.94) if not light.night else (0.075, 0.06, 0.06), np.float32)
    shade = 1 - 0.25 * light.cloud * cover
    colour = colour * (1 - cover * 0.85) + white * shade * cover * 0.85
    azimuth = np.arctan2(fy + across * ry, fx + across * rx)
    hills = rise < 0.035 + 0.018 * np.sin(3 * azimuth + 1) + 0.01 * np.sin(11 * azimuth)
    colour[hills] = 0.75 * horizon + 0.25 * np.array((0.25, 0.32, 0.35), np.float32) * (0.1 if light.night else 1)
    frame.colour.reshape(-1, 3)[pixel] = colour
