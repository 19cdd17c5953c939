"""Street lamps: what they light, what they look like, the glare round everything that shines."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from PIL import Image as Pillow

from datasets_vg.synthetic_city.camera import Camera, Floats, Frame
from datasets_vg.synthetic_city.plan import Street
from datasets_vg.synthetic_city.sprites import LAMP_REACH

LAMP_COLOUR = np.array((1.0, 0.76, 0.46), np.float32)
HEAD_HEIGHT = 6.2
STRENGTH = 0.85
FALL = 0.08
"""How fast a lamp's light falls with the square of the distance, per square metre."""
_STEP = 4
"""Every how many pixels the light of the lamps is worked out."""


def lamp_heads(streets: list[Street]) -> Floats:
    """Return where the lamps hang, float32 [n,2]."""
    lamps = np.concatenate([street.lamps for street in streets])
    return lamps[:, :2] + lamps[:, 2:] * np.float32(LAMP_REACH)


def light_at(heads: Floats, x: float, y: float) -> float:
    """Return the light of all lamps at a place near the ground."""
    squared = (heads[:, 0] - x) ** 2 + (heads[:, 1] - y) ** 2 + 16.0
    return float((STRENGTH / (1 + squared * FALL)).sum())


def light_up(frame: Frame, glow: NDArray[np.bool_], heads: Floats, ambient: float) -> None:
    """Add the light of lamps to walls and ground [H,W,3] that do not shine themselves; `ambient` lit them so far."""
    coarse = _lamplight(frame.camera, frame.depth, heads)
    rows, columns = frame.depth.shape
    fine = Pillow.fromarray(coarse).resize((columns, rows), Pillow.Resampling.BILINEAR)
    added = np.where(glow, 0, np.asarray(fine)) * np.float32(1 / ambient)
    frame.colour *= 1 + added[..., None] * LAMP_COLOUR


def _lamplight(camera: Camera, depth: Floats, heads: Floats) -> Floats:
    half = _STEP // 2
    d = depth[half::_STEP, half::_STEP]
    d = np.where(np.isfinite(d), d, np.float32(1e4))
    across, down = camera.across[half::_STEP] * d, camera.down[half::_STEP, None] * d
    light = np.zeros_like(d)
    right, ahead = camera.relative(heads[:, 0], heads[:, 1])
    for a, b in zip(right.tolist(), ahead.tolist(), strict=True):
        if -15 < b < 80:
            squared = (across - a) ** 2 + (d - b) ** 2 + (camera.height - HEAD_HEIGHT - down) ** 2
            light += np.float32(STRENGTH) / (1 + squared * np.float32(FALL))
    return light


def draw_heads(frame: Frame, heads: Floats, shine: Floats) -> None:
    """Draw the shining lamps and mark them in `shine`."""
    camera = frame.camera
    right, ahead = camera.relative(heads[:, 0], heads[:, 1])
    for a, b in zip(right.tolist(), ahead.tolist(), strict=True):
        if not 1.5 < b < 110:
            continue
        size = max(1, round(0.22 / b * camera.focal))
        row, column = camera.row_of(HEAD_HEIGHT, b), camera.column_of(a, b)
        window = frame.window(row - size, row + size, column - size, column + size)
        if window is not None:
            free = frame.depth[window] >= b - 0.5
            frame.colour[window][free] = (1.0, 0.9, 0.65)
            shine[window][free] = 4.0


def add_glare(frame: Frame, shine: Floats) -> None:
    """Add a halo round whatever shines."""
    rows, columns = shine.shape
    small = Pillow.fromarray(shine).resize((columns // 4, rows // 4), Pillow.Resampling.BOX)
    total = np.zeros((rows, columns), np.float32)
    for size in (6, 18):
        coarse = small.resize((columns // (2 * size), rows // (2 * size)), Pillow.Resampling.BOX)
        total += np.asarray(coarse.resize((columns, rows), Pillow.Resampling.BICUBIC))
    frame.colour += (np.maximum(total, 0) * np.float32(0.3))[..., None] * LAMP_COLOUR
