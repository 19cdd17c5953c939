"""The ground plan of a district: a street grid, the houses round its blocks, trees, lamps and parking places.

Everything is derived from (seed, district, place), so a district of any size is made piece by piece as it is looked at.
Local coordinates are metres, x to the right and y up the plan; `District.to_utm` turns them into the map's.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from datasets_vg.synthetic_city.facade import House, skyline
from datasets_vg.synthetic_city.styles import district_styles
from vgbench.randomness import numpy_stream

Floats = NDArray[np.float32]

MARGIN = 3
"""Blocks built around the part of a district where pictures are taken, so that no street ends in a void."""
SKYLINE_SAMPLES = 64
PARTY_WALL = 9.0
STYLES_A_DISTRICT = 5
PARK_SHARE = 0.09
GROUND_STEP = 0.125


@dataclass(frozen=True)
class Front:
    """One vertical wall: from left to right as seen from outside, metres."""

    house: House
    blank: bool
    left: tuple[float, float]
    right: tuple[float, float]

    @property
    def width(self) -> float:
        return math.dist(self.left, self.right)

    @property
    def key(self) -> tuple[object, ...]:
        """What its picture depends on."""
        return (self.house.number, self.blank, round(self.width, 3))


@dataclass(frozen=True)
class Walls:
    """The walls of one block in arrays: ends float32 [n,4], texture height [n], skyline [n,SKYLINE_SAMPLES]."""

    fronts: tuple[Front, ...]
    ends: Floats
    height: Floats
    skyline: Floats


@dataclass(frozen=True)
class Street:
    """What stands along one street between two crossings.

    Attributes:
        trees: float32 [n,4]: x, y, height, kind.
        lamps: float32 [n,4]: x, y, unit vector towards the road.
        posts: float32 [n,3]: x, y, kind of street furniture.
        parking: float32 [n,3]: x, y, direction in radians of each place where a car may stand.
    """

    trees: Floats
    lamps: Floats
    posts: Floats
    parking: Floats


@dataclass(frozen=True)
class GroundLines:
    """What lies across the streets of one direction, in a row of cells GROUND_STEP wide that begins at `low`.

    Attributes:
        middle, half, pavement: the nearest street's middle line, half its carriageway, its pavement: float32, metres.
        built: bool, whether it is behind the building line.
    """

    low: float
    middle: Floats
    half: Floats
    pavement: Floats
    built: NDArray[np.bool_]

    def cell(self, value: Floats) -> NDArray[np.int32]:
        """Return the cells of coordinates [...], of the same shape; what is outside counts to the first or last."""
        cell = ((value - np.float32(self.low)) * np.float32(1 / GROUND_STEP)).astype(np.int32)
        return np.clip(cell, 0, len(self.built) - 1)


class District:
    """One part of the city.

    Args:
        seed: of the city.
        name: of the district, which seeds it with `seed`.
        blocks: along each side of the part where pictures are taken.
        origin: UTM metres of its corner.
        rotation: radians from the map's east to the local x axis, counterclockwise.
    """

    def __init__(self, seed: int, name: str, blocks: int, origin: tuple[float, float], rotation: float) -> None:
        self.seed, self.name, self.blocks, self.origin, self.rotation = seed, name, blocks, origin, rotation
        rng = self.stream("grid")
        count = blocks + 1 + 2 * MARGIN
        # Per street of either direction: half the carriageway, the pavement, whether trees line it.
        self.road = rng.choice([3.4, 4.0, 4.6, 5.4], (2, count), p=[0.25, 0.35, 0.25, 0.15])
        self.pavement = rng.uniform(2.2, 4.2, (2, count))
        self.leafy = rng.random((2, count)) < 0.5
        self.axes = np.cumsum(rng.uniform(52, 92, (2, count)) + self.road + self.pavement, axis=1)
        self.axes -= self.axes[:, MARGIN : MARGIN + 1]
        self.styles = district_styles(rng, STYLES_A_DISTRICT)
        self.ground = tuple(self._ground_lines(direction) for direction in range(2))
        self.block = functools.lru_cache(maxsize=512)(self._block)
        self.street = functools.lru_cache(maxsize=512)(self._street)

    def stream(self, *path: str | int) -> np.random.Generator:
        return numpy_stream(self.seed, "synthetic_city", self.name, *path)

    def to_utm(self, x: float, y: float) -> tuple[float, float]:
        c, s = math.cos(self.rotation), math.sin(self.rotation)
        return self.origin[0] + c * x - s * y, self.origin[1] + s * x + c * y

    def rectangle(self, i: int, j: int) -> tuple[float, float, float, float]:
        """Return x0, y0, x1, y1 of the building line of block (i, j)."""
        low = [self.axes[d, k] + self.road[d, k] + self.pavement[d, k] for d, k in ((0, i), (1, j))]
        high = [self.axes[d, k] - self.road[d, k] - self.pavement[d, k] for d, k in ((0, i + 1), (1, j + 1))]
        return float(low[0]), float(low[1]), float(high[0]), float(high[1])

    def _ground_lines(self, direction: int) -> GroundLines:
        axes, road, pavement = self.axes[direction], self.road[direction], self.pavement[direction]
        low = float(axes[0]) - 300
        value = low + (np.arange(int((axes[-1] + 300 - low) / GROUND_STEP)) + 0.5) * GROUND_STEP
        nearest = np.searchsorted((axes[1:] + axes[:-1]) / 2, value)
        built = np.abs(value - axes[nearest]) > (road + pavement)[nearest]
        middle, half, width = (a[nearest].astype(np.float32) for a in (axes, road, pavement))
        return GroundLines(low, middle, half, width, built)

    def is_park(self, i: int, j: int) -> bool:
        return bool(self.stream("park", i, j).random() < PARK_SHARE)

    def segments(self) -> Iterator[tuple[int, int, int]]:
        """Yield (axis, street, block) of each street between two crossings: axis 0 runs along y, 1 along x."""
        inside = range(MARGIN, MARGIN + self.blocks)
        for j in range(MARGIN, MARGIN + self.blocks + 1):
            yield from ((1, j, i) for i in inside)
            if j < MARGIN + self.blocks:
                yield from ((0, i, j) for i in range(MARGIN, MARGIN + self.blocks + 1))

    def segment_ends(self, axis: int, street: int, block: int) -> tuple[float, float]:
        """Return where a segment begins and ends along its street: the far kerbs of its two crossings."""
        across = 1 - axis
        return (
            float(self.axes[across, block] + self.road[across, block]),
            float(self.axes[across, block + 1] - self.road[across, block + 1]),
        )

    def place(self, axis: int, street: int, along: float, aside: float) -> tuple[float, float]:
        """Return x, y of a point `along` a street and `aside` from its middle."""
        middle = float(self.axes[axis, street])
        return (middle + aside, along) if axis == 0 else (along, middle + aside)

    def _block(self, i: int, j: int) -> Walls:
        fronts = [] if self.is_park(i, j) else self._fronts(i, j)
        ends = np.array([(*f.left, *f.right) for f in fronts], np.float32).reshape(-1, 4)
        tops = [
            np.full(SKYLINE_SAMPLES, f.house.wall_height, np.float32)
            if f.blank
            else skyline(f.house, f.width, SKYLINE_SAMPLES)
            for f in fronts
        ]
        heights = [f.house.wall_height if f.blank else f.house.full_height for f in fronts]
        stacked = np.array(tops, np.float32).reshape(-1, SKYLINE_SAMPLES)
        return Walls(tuple(fronts), ends, np.array(heights, np.float32), stacked)

    def _fronts(self, i: int, j: int) -> list[Front]:
        x0, y0, x1, y1 = self.rectangle(i, j)
        corners = [(x0, y0), (x1, y0), (x1, y1), (x0, y1)]
        rng = self.stream("block", i, j)
        # Neighbouring houses share a style and often a colour, as terraces do.
        favourite = [int(k) for k in rng.integers(STYLES_A_DISTRICT, size=2)]
        corner_houses = [self._house(rng, (i, j, 4, c), favourite) for c in range(4)]
        fronts: list[Front] = []
        for side in range(4):
            start, end = np.array(corners[side]), np.array(corners[(side + 1) % 4])
            cuts, houses = self._lots(rng, float(np.hypot(*(end - start))), (i, j, side), favourite)
            houses = [corner_houses[side], *houses, corner_houses[(side + 1) % 4]]
            along = (end - start) / np.hypot(*(end - start))
            points = [start + along * cut for cut in cuts]
            fronts += [
                Front(h, False, _point(a), _point(b)) for h, a, b in zip(houses, points[:-1], points[1:], strict=True)
            ]
            fronts += _party_walls(houses, points[1:-1], along)
        return fronts

    def _lots(
        self, rng: np.random.Generator, length: float, side: tuple[int, int, int], favourite: list[int]
    ) -> tuple[list[float], list[House]]:
        """Divide one side of a block: cuts from 0 to `length`, and the houses between the two corner houses."""
        corner = rng.uniform(8.5, 11.5, 2)
        inner = length - corner.sum()
        houses: list[House] = []
        widths: list[float] = []
        house = self._house(rng, (*side, 0), favourite)
        while sum(widths) < inner:
            low, high = house.style.lot
            widths.append(rng.uniform(low, high))
            houses.append(house)
            following = self._house(rng, (*side, len(houses)), favourite)
            if rng.random() < 0.45:  # one of a row: the same house again, but for its door and its windows
                following = House(following.number, house.style, house.colour, house.floors, following.shop)
            house = following
        scale = inner / sum(widths)
        cuts = corner[0] + np.concatenate([[0.0], np.cumsum(widths) * scale])
        return [0.0, *cuts.tolist(), length], houses

    def _house(self, rng: np.random.Generator, place: tuple[int, ...], favourite: list[int]) -> House:
        pick = favourite[int(rng.integers(2))] if rng.random() < 0.75 else int(rng.integers(STYLES_A_DISTRICT))
        style = self.styles[pick]
        colour = style.palette[int(rng.integers(len(style.palette)))]
        floors = int(rng.integers(style.floors[0], style.floors[1] + 1))
        number = (int(self.stream("house").integers(2**31)), *place)
        return House(number, style, colour, floors, bool(rng.random() < style.shops))

    def _street(self, axis: int, street: int, block: int) -> Street:
        rng = self.stream("street", axis, street, block)
        begin, end = self.segment_ends(axis, street, block)
        road = float(self.road[axis, street])
        trees: list[tuple[float, ...]] = []
        lamps: list[tuple[float, ...]] = []
        posts: list[tuple[float, ...]] = []
        parking: list[tuple[float, ...]] = []
        kind = int(rng.integers(6))
        for side in (-1, 1):
            kerb = side * (road + 0.7)
            stations = np.arange(begin + 7 + rng.uniform(0, 6), end - 6, rng.uniform(9, 15))
            planted = stations[rng.random(stations.size) < 0.8].tolist() if self.leafy[axis, street] else []
            trees += [(*self.place(axis, street, along, kerb), rng.uniform(5.5, 9.0), kind) for along in planted]
            inward = (-side, 0) if axis == 0 else (0, -side)
            lit = np.arange(begin + 4 + (12 if side > 0 else 0), end - 3, 24.0).tolist()
            lamps += [(*self.place(axis, street, along, side * (road + 0.4)), *inward) for along in lit]
            stood = rng.uniform(begin + 2, end - 2, int(rng.integers(0, 6))).tolist()
            posts += [(*self.place(axis, street, along, side * (road + 0.5)), int(rng.integers(4))) for along in stood]
            if road > 3.5:
                heading = math.pi / 2 if axis == 0 else 0.0
                for along in np.arange(begin + 9, end - 9, 5.6):
                    spot = self.place(axis, street, along, side * (road - 1.05))
                    parking.append((*spot, heading + (math.pi if side > 0 else 0.0)))
        if axis == 0 and self.is_park(street, block):
            trees += self._park_trees(rng, street, block)
        return Street(_rows(trees, 4), _rows(lamps, 4), _rows(posts, 3), _rows(parking, 3))

    def _park_trees(self, rng: np.random.Generator, i: int, j: int) -> list[tuple[float, ...]]:
        x0, y0, x1, y1 = self.rectangle(i, j)
        points = rng.uniform((x0 + 2, y0 + 2), (x1 - 2, y1 - 2), (26, 2))
        return [(*_point(p), float(rng.uniform(6, 11)), int(rng.integers(6))) for p in points]


def _party_walls(houses: list[House], points: list[NDArray[np.float64]], along: NDArray[np.float64]) -> list[Front]:
    """Return the bare side walls of houses that stand higher than their neighbours."""
    inward = np.array([-along[1], along[0]]) * PARTY_WALL
    walls = []
    for left, right, point in zip(houses[:-1], houses[1:], points, strict=True):
        near, far = _point(point), _point(point + inward)
        if left.wall_height > right.wall_height + 0.5:
            walls.append(Front(left, True, near, far))
        elif right.wall_height > left.wall_height + 0.5:
            walls.append(Front(right, True, far, near))
    return walls


def _point(point: NDArray[np.float64]) -> tuple[float, float]:
    return float(point[0]), float(point[1])


def _rows(rows: list[tuple[float, ...]], columns: int) -> Floats:
    return np.array(rows, np.float32).reshape(-1, columns)
