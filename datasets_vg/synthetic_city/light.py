"""A day and an hour: sun, sky, season, exposure. Each traverse of the city is photographed in its own light."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

Colour = tuple[float, float, float]


@dataclass(frozen=True)
class Light:
    """The light of one picture. Angles in radians in local coordinates, colours RGB factors.

    Attributes:
        night: whether lamps and windows are lit.
        sun: azimuth and elevation.
        sun_colour, ambient: light added to a surface by the sun head on, and by the sky.
        sky: colour at the zenith and at the horizon.
        cloud: share of the sky covered, 0..1; it takes from the sun.
        day: number of the day: clouds, lit windows, parked cars.
        leaves: 0 bare, 1 full.
        leaf_colours: RGB of each of six kinds of tree.
        exposure, tint: factors on the finished picture.
        grain: spread of the sensor's noise on a scale of 0..1.
        wet: how much darker the ground is, 0..1.
    """

    night: bool
    sun: tuple[float, float]
    sun_colour: Colour
    ambient: Colour
    sky: tuple[Colour, Colour]
    cloud: float
    day: int
    leaves: float
    leaf_colours: tuple[Colour, ...]
    exposure: float
    tint: Colour
    grain: float
    wet: float

    @property
    def sun_direction(self) -> tuple[float, float, float]:
        azimuth, elevation = self.sun
        flat = math.cos(elevation)
        return flat * math.cos(azimuth), flat * math.sin(azimuth), math.sin(elevation)


SUMMER: tuple[Colour, ...] = (
    (0.22, 0.36, 0.12), (0.28, 0.40, 0.15), (0.18, 0.32, 0.14),
    (0.32, 0.42, 0.16), (0.25, 0.34, 0.18), (0.30, 0.38, 0.10),
)  # fmt: skip
AUTUMN: tuple[Colour, ...] = (
    (0.62, 0.36, 0.10), (0.70, 0.52, 0.14), (0.52, 0.22, 0.10),
    (0.60, 0.46, 0.16), (0.44, 0.34, 0.15), (0.74, 0.44, 0.12),
)  # fmt: skip
_BLUE = ((0.32, 0.52, 0.85), (0.70, 0.80, 0.92))
_GREY = ((0.62, 0.65, 0.70), (0.80, 0.81, 0.83))
_NIGHT = ((0.015, 0.02, 0.05), (0.09, 0.075, 0.08))


@dataclass(frozen=True)
class _Season:
    """What the pictures of one traverse have in common; the fields as in Light, `spread` that of log exposure."""

    month: int
    days: tuple[int, ...]
    sun: tuple[float, float]
    sun_colour: Colour
    ambient: Colour
    sky: tuple[Colour, Colour]
    cloud: float
    leaves: float
    leaf_colours: tuple[Colour, ...]
    spread: float
    grain: float
    wet: float


SEASONS = {
    "summer": _Season(
        month=6, days=(1,), sun=(-1.2, 0.95), sun_colour=(0.70, 0.66, 0.58), ambient=(0.68, 0.70, 0.74), sky=_BLUE,
        cloud=0.25, leaves=1.0, leaf_colours=SUMMER, spread=0.08, grain=0.006, wet=0.0,
    ),
    "autumn": _Season(
        month=10, days=(2, 3), sun=(2.4, 0.5), sun_colour=(0.74, 0.62, 0.42), ambient=(0.58, 0.59, 0.64), sky=_BLUE,
        cloud=0.35, leaves=0.65, leaf_colours=AUTUMN, spread=0.16, grain=0.012, wet=0.1,
    ),
    "winter": _Season(
        month=1, days=(4, 5), sun=(-2.0, 0.35), sun_colour=(0.10, 0.10, 0.10), ambient=(0.76, 0.78, 0.82), sky=_GREY,
        cloud=0.95, leaves=0.0, leaf_colours=AUTUMN, spread=0.16, grain=0.014, wet=0.35,
    ),
    "night": _Season(
        month=12, days=(6, 7), sun=(0.0, -0.5), sun_colour=(0.0, 0.0, 0.0), ambient=(0.13, 0.13, 0.17), sky=_NIGHT,
        cloud=0.5, leaves=0.0, leaf_colours=AUTUMN, spread=0.18, grain=0.032, wet=0.2,
    ),
}  # fmt: skip


def make_light(season: str, rng: np.random.Generator) -> Light:
    """Return the light of one picture taken in a season (of SEASONS), with its own day, exposure and tint."""
    s = SEASONS[season]
    red, blue = (float(v) for v in 1 + rng.normal(0, 0.045, 2))
    return Light(
        night=season == "night", sun=(s.sun[0] + float(rng.normal(0, 0.1)), s.sun[1]), sun_colour=s.sun_colour,
        ambient=s.ambient, sky=s.sky, cloud=s.cloud, day=s.days[int(rng.integers(len(s.days)))], leaves=s.leaves,
        leaf_colours=s.leaf_colours, exposure=float(np.exp(rng.normal(0, s.spread))), tint=(red, 1.0, blue),
        grain=s.grain, wet=s.wet,
    )  # fmt: skip
