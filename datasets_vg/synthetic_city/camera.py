"""The pinhole camera with a level axis (raised lens instead of a tilt, so uprights stay upright) and its picture."""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]


@dataclass(frozen=True)
class Camera:
    """Where and how a picture is taken, in local coordinates.

    Attributes:
        x, y, height: of the lens, metres.
        heading: radians, counterclockwise from the x axis.
        view_angle: horizontal, radians.
        horizon: row of the horizon as a share of the picture's height from above.
        rows, columns: of the picture that is sampled.
    """

    x: float
    y: float
    height: float
    heading: float
    view_angle: float
    horizon: float
    rows: int
    columns: int

    @property
    def focal(self) -> float:
        """Focal length in pixels."""
        return self.columns / 2 / math.tan(self.view_angle / 2)

    @property
    def forward(self) -> tuple[float, float]:
        return math.cos(self.heading), math.sin(self.heading)

    @property
    def right(self) -> tuple[float, float]:
        return math.sin(self.heading), -math.cos(self.heading)

    @functools.cached_property
    def across(self) -> Floats:
        """Metres to the right a metre ahead, for each column."""
        return ((np.arange(self.columns) + 0.5 - self.columns / 2) / self.focal).astype(np.float32)

    @functools.cached_property
    def down(self) -> Floats:
        """Metres downwards a metre ahead, for each row."""
        return ((np.arange(self.rows) + 0.5 - self.horizon * self.rows) / self.focal).astype(np.float32)

    def relative(self, x: Floats, y: Floats) -> tuple[Floats, Floats]:
        """Return metres to the right and metres ahead of points."""
        dx, dy = x - np.float32(self.x), y - np.float32(self.y)
        (fx, fy), (rx, ry) = self.forward, self.right
        return dx * rx + dy * ry, dx * fx + dy * fy

    def relative_point(self, x: float, y: float) -> tuple[float, float]:
        """Return metres to the right and metres ahead of one point."""
        dx, dy = x - self.x, y - self.y
        (fx, fy), (rx, ry) = self.forward, self.right
        return dx * rx + dy * ry, dx * fx + dy * fy

    def row_of(self, z: float, depth: float) -> int:
        """Return the row where height `z` (m) at `depth` (m) is seen."""
        return round((self.height - z) / depth * self.focal + self.horizon * self.rows)

    def column_of(self, aside: float, depth: float) -> int:
        """Return the column where a point `aside` (m) at `depth` (m) is seen."""
        return round(aside / depth * self.focal + self.columns / 2)


@dataclass
class Frame:
    """A picture in the making: colour float32 [rows,columns,3], depth along the axis float32 [rows,columns] (m)."""

    camera: Camera
    colour: Floats = field(init=False)
    depth: Floats = field(init=False)

    def __post_init__(self) -> None:
        shape = (self.camera.rows, self.camera.columns)
        self.colour = np.zeros((*shape, 3), np.float32)
        self.depth = np.full(shape, np.inf, np.float32)

    def window(self, top: int, bottom: int, left: int, right: int) -> tuple[slice, slice] | None:
        """Return the part of a rectangle that is in the picture, or None."""
        top, bottom = max(top, 0), min(bottom, self.camera.rows)
        left, right = max(left, 0), min(right, self.camera.columns)
        return (slice(top, bottom), slice(left, right)) if top < bottom and left < right else None
