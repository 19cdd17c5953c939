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
    (0.22, 0.36, 0.12), (0.28, 0.40, 0.15), (0.18, 0.32, 0.14), (0.32, 0.42, 0.16), (0.25, 0.34, 0.18), (0.30, 0.38, 0.10),
)  # fmt: skip
AUTUMN: tuple[Colour, ...] = (
    (0.62, 0.36, 0.10), (0.70, 0.52, 0.14), (0.52, 0.22, 0.10), (0.60, 0.46, 0.16), (0.44, 0.34, 0.15), (0.74, 0.44, 0.12),
)  # fmt: skip
_BLUE = ((0.32, 0.52, 0.85), (0.70, 0.80, 0.92))
_GREY = ((0.62, 0.65, 0.70), (0.80, 0.81, 0.83))
_NIGHT = ((0.015, 0.02, 0.05), (0.09, 0.075, 0.08))

KINDS = ("summer", "autumn", "winter", "night")
MONTHS = {"summer": 6, "autumn": 10, "winter": 1, "night": 12}


def make_light(kind: str, rng: np.random.Generator, day: int) -> Light:
    """Return the light of a picture taken in `kind` (one of KINDS) on day `day`, with its own exposure and tint."""
    cloud = {"summer": 0.25, "autumn": 0.35, "winter": 0.95, "night": 0.5}[kind]
    azimuth, elevation = {"summer": (-1.2, 0.95), "autumn": (2.4, 0.5), "winter": (-2.0, 0.35), "night": (0.0, -0.5)}[
        kind
    ]
    spread = {"summer": 0.10, "autumn": 0.22, "winter": 0.22, "night": 0.25}[kind]
    warm = {
        "summer": (1.0, 0.96, 0.88),
        "autumn": (1.05, 0.88, 0.66),
        "winter": (0.9, 0.95, 1.0),
        "night": (0.0, 0.0, 0.0),
    }
    strength = 0.72 * (1 - 0.9 * cloud)
    ambient = {
        "summer": (0.60, 0.64, 0.72), "autumn": (0.55, 0.57, 0.64), "winter": (0.78, 0.82, 0.88), "night": (0.085, 0.085, 0.12),
    }[kind]  # fmt: skip
    return Light(
        night=kind == "night",
        sun=(azimuth + rng.normal(0, 0.1), elevation),
        sun_colour=_scaled(warm[kind], strength),
        ambient=ambient,
        sky={"summer": _BLUE, "autumn": _BLUE, "winter": _GREY, "night": _NIGHT}[kind],
        cloud=cloud,
        day=day,
        leaves={"summer": 1.0, "autumn": 0.65, "winter": 0.0, "night": 0.0}[kind],
        leaf_colours=AUTUMN if kind in ("autumn", "night") else SUMMER,
        exposure=float(np.exp(rng.normal(0, spread))),
        tint=_scaled((1 + rng.normal(0, 0.05), 1.0, 1 + rng.normal(0, 0.06)), 1.0),
        grain={"summer": 0.006, "autumn": 0.012, "winter": 0.014, "night": 0.045}[kind],
        wet={"summer": 0.0, "autumn": 0.1, "winter": 0.35, "night": 0.2}[kind],
    )


def _scaled(colour: Colour, factor: float) -> Colour:
    red, green, blue = (float(c * factor) for c in colour)
    return (red, green, blue)
