"""What stands and moves in the streets: trees, lamps, posts, parked cars, traffic, passers-by."""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass

import numpy as np

from datasets_vg.synthetic_city.camera import Camera, Floats
from datasets_vg.synthetic_city.cars import PAINT_SHARES, Car
from datasets_vg.synthetic_city.plan import District, Street
from datasets_vg.synthetic_city.sprites import PEOPLE

NEAR = 110.0
"""Metres beyond which nothing but houses is drawn."""
OCCUPIED = 0.62
"""Share of parking places that are taken."""
RESIDENT = 0.5
"""Share of parking places whose car, or none, is there every day."""

StreetKey = tuple[int, int, int]


@dataclass(frozen=True)
class Standing:
    """A flat thing: its kind, where it is seen (metres to the right and ahead) and stands, and the plan's numbers."""

    kind: str
    aside: float
    ahead: float
    x: float
    y: float
    numbers: tuple[float, ...]


Thing = Standing | Car
Scene = list[tuple[float, Thing]]


class Life:
    """The contents of a district's streets as seen from a camera."""

    def __init__(self, district: District) -> None:
        self.district = district
        self._parked = functools.lru_cache(maxsize=1024)(self._parked_cars)

    def streets(self, camera: Camera) -> list[tuple[StreetKey, Street]]:
        """Return the streets near a camera, ahead of it or not."""
        keys: list[StreetKey] = []
        for axis in range(2):
            own, across = (camera.x, camera.y) if axis == 0 else (camera.y, camera.x)
            lines = np.flatnonzero(np.abs(self.district.axes[axis] - own) < NEAR)
            cross = self.district.axes[1 - axis]
            blocks = np.flatnonzero((cross[1:] > across - NEAR) & (cross[:-1] < across + NEAR))
            keys += [(axis, int(i), int(j)) for i in lines for j in blocks if i < len(cross) - 1]
        return [(key, self.district.street(*key)) for key in keys]

    def scene(
        self, streets: list[tuple[StreetKey, Street]], camera: Camera, day: int, rng: np.random.Generator
    ) -> Scene:
        """Return (metres ahead, thing) of what is in sight, farthest first; `rng` decides what moves."""
        cars = [car for key, _ in streets for car in self._parked(key, day)]
        cars += _traffic(self.district, camera, rng)
        seen: Scene = []
        for car in cars:
            aside, ahead = camera.relative_point(car.x, car.y)
            if -2 < ahead < NEAR and abs(aside) < float(camera.across[-1]) * max(ahead, 0) + 4:
                seen.append((ahead, car))
        for _, street in streets:
            for kind, rows in (("tree", street.trees), ("lamp", street.lamps), ("post", street.posts)):
                seen += _in_sight(kind, rows, camera)
        seen += _in_sight("person", _walkers(self.district, camera, rng), camera)
        return sorted(seen, key=lambda entry: -entry[0])

    def _parked_cars(self, key: StreetKey, day: int) -> tuple[Car, ...]:
        places = self.district.street(*key).parking
        count = len(places)
        drawn = []
        for path in (("residents", *key), ("parked", day, *key)):
            rng = self.district.stream(*path)
            paints = rng.choice(len(PAINT_SHARES), count, p=PAINT_SHARES)
            drawn.append((rng.random(count), paints, rng.random(count), rng.normal(0, 0.35, count)))
        cars = []
        for i, (x, y, direction) in enumerate(places.tolist()):
            taken, paint, kind, shift = drawn[0 if drawn[0][2][i] < RESIDENT else 1]
            if taken[i] < OCCUPIED:
                dx, dy = math.cos(direction) * float(shift[i]), math.sin(direction) * float(shift[i])
                cars.append(Car(x + dx, y + dy, direction, int(paint[i]), bool(kind[i] % 0.5 < 0.08)))
        return tuple(cars)


def _in_sight(kind: str, rows: Floats, camera: Camera) -> list[tuple[float, Thing]]:
    aside, ahead = camera.relative(rows[:, 0], rows[:, 1])
    seen = np.flatnonzero((ahead > 0.8) & (ahead < NEAR) & (np.abs(aside) < camera.across[-1] * ahead + 6))
    places = zip(aside[seen].tolist(), ahead[seen].tolist(), rows[seen].tolist(), strict=True)
    return [(b, Standing(kind, a, b, row[0], row[1], tuple(row[2:]))) for a, b, row in places]


def _looking_along(district: District, camera: Camera) -> tuple[int, int, float, int]:
    """Return the axis and number of the street looked down, the place on it, and the sign of the direction."""
    axis = 0 if abs(camera.forward[1]) > abs(camera.forward[0]) else 1
    own, along = (camera.x, camera.y) if axis == 0 else (camera.y, camera.x)
    street = int(np.abs(district.axes[axis] - own).argmin())
    return axis, street, along, 1 if camera.forward[1 - axis] > 0 else -1


def _traffic(district: District, camera: Camera, rng: np.random.Generator) -> list[Car]:
    """Return cars that happen to drive along the street the camera looks down."""
    axis, street, along, forth = _looking_along(district, camera)
    cars = []
    for _ in range(int(rng.integers(0, 3))):
        distance, side = float(rng.uniform(9, 80)), 1 if rng.random() < 0.5 else -1
        aside = side * min(1.6, float(district.road[axis, street]) - 2.4)
        x, y = district.place(axis, street, along + forth * distance, aside)
        # Traffic keeps to the right.
        direction = side * math.pi / 2 if axis == 0 else (math.pi if side > 0 else 0.0)
        paint, van = int(rng.choice(len(PAINT_SHARES), p=PAINT_SHARES)), bool(rng.random() < 0.2)
        cars.append(Car(x, y, direction, paint, van))
    return cars


def _walkers(district: District, camera: Camera, rng: np.random.Generator) -> Floats:
    """Return passers-by on the pavements ahead: float32 [n,3]: x, y, kind."""
    axis, street, along, forth = _looking_along(district, camera)
    road, pavement = float(district.road[axis, street]), float(district.pavement[axis, street])
    rows = []
    for distance in rng.uniform(4, 60, int(rng.integers(0, 6))).tolist():
        aside = (road + rng.uniform(0.9, pavement - 0.3)) * (1 if rng.random() < 0.5 else -1)
        rows.append((*district.place(axis, street, along + forth * distance, aside), int(rng.integers(PEOPLE))))
    return np.array(rows, np.float32).reshape(-1, 3)
