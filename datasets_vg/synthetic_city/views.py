"""Which pictures are taken where: the survey of one district, street by street, without ever listing it whole."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from datasets_vg.synthetic_city.camera import Camera
from datasets_vg.synthetic_city.light import SEASONS, make_light
from datasets_vg.synthetic_city.plan import District
from datasets_vg.synthetic_city.render import OVERSAMPLING, Shot
from vgbench.data import ImageName, format_name
from vgbench.data.utm import to_latitude_longitude

ZONE, LETTER = 32, "T"
SPACING = 10.0
"""Metres between the places of the database."""
LANE = 1.7
SIDEWAYS_SHARE = 0.25
"""Share of streets photographed to both sides as well as along."""
CLEARANCE = 4.0
"""Metres kept from the crossings."""
HEADING_JITTER = 6.0
"""Standard deviation of how far queries look aside, degrees."""
NIGHT_SHARE = 1 / 6
"""Share of the training queries taken at night; those of val and test are in queries_night alone."""

Segment = tuple[int, int, int]


@dataclass(frozen=True)
class Counts:
    """How many pictures of each folder."""

    database: int
    queries: int
    queries_night: int

    @property
    def total(self) -> int:
        return self.database + self.queries + self.queries_night


@dataclass(frozen=True)
class Work:
    """The pictures to take in one street between two crossings: how many of each folder."""

    split: str
    segment: Segment
    counts: Counts


@dataclass(frozen=True)
class View:
    """One picture: its path below `images/` and the shot."""

    path: str
    shot: Shot


def plan_work(district: District, counts: Counts) -> Iterator[Work]:
    """Share out the pictures over the streets of a district, in order, until `counts` is reached."""
    taken, queries, night = 0, 0, 0
    for segment in district.segments():
        database = min(len(_database_places(district, segment)), counts.database - taken)
        if database <= 0:
            return
        taken += database
        share = taken / counts.database
        here = Counts(database, round(counts.queries * share) - queries, round(counts.queries_night * share) - night)
        queries, night = queries + here.queries, night + here.queries_night
        yield Work(district.name, segment, here)


def blocks_needed(seed: int, split: str, database: int) -> int:
    """Return how many blocks a side a district needs for a number of database pictures."""
    # A street has some 14 pictures and a district of n blocks about 2 n^2 streets.
    blocks = max(1, int(math.sqrt(database / 40)))
    while _capacity(make_district(seed, split, blocks)) < database:
        blocks += 1
    return blocks


def _capacity(district: District) -> int:
    return sum(len(_database_places(district, segment)) for segment in district.segments())


def make_district(seed: int, split: str, blocks: int) -> District:
    """Return the district of a split; the three lie well apart, whatever their size."""
    place = ("train", "val", "test").index(split)
    gap = 2000.0 + 80.0 * blocks
    origin = (396_000.0 + (place * gap if place else 0.0), 4_991_000.0 + (900.0 if place == 1 else 0.0))
    rotation = (0.12, -0.35, 0.55)[place]
    return District(seed, split, blocks, origin, rotation)


def views(district: District, work: Work, size: tuple[int, int]) -> Iterator[View]:
    """Yield the pictures of one street; `size` is the height and width of the finished picture."""
    places = _database_places(district, work.segment)
    for number in range(work.counts.database):
        along, aside, turn = places[number]
        rng = district.stream("database", *work.segment, number)
        yield _view(district, work, _Stand("database", number, along, aside, turn, "summer"), rng, size)
    for folder, count in (("queries", work.counts.queries), ("queries_night", work.counts.queries_night)):
        for number in range(count):
            rng = district.stream(folder, *work.segment, number)
            along, _, turn = places[int(rng.integers(work.counts.database))]
            along += rng.uniform(-0.5, 0.5) * SPACING
            aside = -_lane(work.segment) + rng.normal(0, 0.35)
            kind = "night" if folder == "queries_night" else ("autumn", "winter")[int(rng.integers(2))]
            if folder == "queries" and work.split == "train" and rng.random() < NIGHT_SHARE:
                kind = "night"
            turn += rng.normal(0, HEADING_JITTER)
            yield _view(district, work, _Stand(folder, number, along, aside, turn, kind), rng, size)


def _lane(segment: Segment) -> float:
    """Return where the survey car drives, right of the middle for one who looks along the axis."""
    return LANE if segment[0] == 0 else -LANE


def _database_places(district: District, segment: Segment) -> list[tuple[float, float, float]]:
    """Return (along, aside, turn in degrees from the street's direction) of each database picture of a street."""
    begin, end = district.segment_ends(*segment)
    begin, end = begin + CLEARANCE, end - CLEARANCE
    stations = np.arange(begin, end, SPACING) + ((end - begin) % SPACING) / 2
    sideways = district.stream("sideways", *segment).random() < SIDEWAYS_SHARE
    turns = (0.0, 180.0, 90.0, -90.0) if sideways else (0.0, 180.0)
    return [(float(along), _lane(segment), turn) for along in stations for turn in turns]


@dataclass(frozen=True)
class _Stand:
    """From where a picture is taken: metres along the street and aside of its middle, degrees from its direction."""

    folder: str
    number: int
    along: float
    aside: float
    turn: float
    kind: str  # of light


def _view(district: District, work: Work, stand: _Stand, rng: np.random.Generator, size: tuple[int, int]) -> View:
    axis, street, _ = work.segment
    x, y = district.place(axis, street, stand.along, stand.aside)
    heading = (90.0 if axis == 0 else 0.0) + stand.turn
    steady = stand.folder == "database"
    camera = Camera(
        x=x, y=y,
        height=2.3 if steady else float(rng.uniform(1.8, 2.4)),
        heading=math.radians(heading),
        view_angle=math.radians(74.0 if steady else float(rng.uniform(70, 78))),
        horizon=0.60 if steady else float(rng.normal(0.60, 0.015)),
        rows=int(size[0] * OVERSAMPLING), columns=int(size[1] * OVERSAMPLING),
    )  # fmt: skip
    light = make_light(stand.kind, rng)
    name = _name(district, work, stand, camera, rng)
    at = (stand.folder, *work.segment, stand.number)
    return View(f"{work.split}/{stand.folder}/{name}", Shot(camera, light, at))


def _name(district: District, work: Work, stand: _Stand, camera: Camera, rng: np.random.Generator) -> str:
    kind = stand.kind
    east, north = (round(value, 2) for value in district.to_utm(camera.x, camera.y))
    latitude, longitude = to_latitude_longitude(east, north, ZONE, LETTER)
    compass = (90.0 - math.degrees(camera.heading + district.rotation)) % 360
    turned = abs((stand.turn + 180) % 360 - 180)
    direction = "forward" if turned < 45 else "backward" if turned > 135 else "sideways"
    hour = int(rng.integers(19, 23)) if kind == "night" else int(rng.integers(9, 16))
    year = 2019 if stand.folder == "database" else 2021
    minute, second, date = (int(rng.integers(low, high)) for low, high in ((0, 60), (0, 60), (1, 28)))
    axis, street, block = work.segment
    return format_name(
        ImageName(
            utm_east=east, utm_north=north, zone_number=ZONE, zone_letter=LETTER,
            latitude=float(latitude), longitude=float(longitude),
            pano_id=f"{work.split}{axis}-{street:03d}-{block:03d}", tile_num=f"{stand.number:03d}",
            heading=compass, timestamp=f"{year}{SEASONS[kind].month:02d}{date:02d}_{hour:02d}{minute:02d}{second:02d}",
            note=f"{'night' if kind == 'night' else 'day'}_{direction}_{kind}",
        )
    )  # fmt: skip
