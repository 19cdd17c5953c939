"""One picture: walls, ground, sky, then what stands in the street, then the camera's own faults."""

from __future__ import annotations

import functools
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image as Pillow

from datasets_vg.synthetic_city import sprites
from datasets_vg.synthetic_city.camera import Camera, Floats, Frame
from datasets_vg.synthetic_city.cars import PAINT_SHARES, SHADOW_REACH, Car, draw_car
from datasets_vg.synthetic_city.ground import draw_ground, draw_sky, lamplight, wall_shadow
from datasets_vg.synthetic_city.light import Light
from datasets_vg.synthetic_city.plan import District, Street
from datasets_vg.synthetic_city.pool import TexturePool
from datasets_vg.synthetic_city.walls import cast, draw

OVERSAMPLING = 1.5
NEAR = 110.0
OCCUPIED = 0.62
RESIDENT = 0.5
LAMP_STEP = 4
_LAMP_COLOUR = np.array((1.0, 0.76, 0.46), np.float32)


@dataclass(frozen=True)
class Shot:
    """One picture to take.

    Attributes:
        camera: at the sampling resolution.
        light: of the day.
        rng_path: seeds what is there only at that instant: passers-by, moving cars, grain.
    """

    camera: Camera
    light: Light
    rng_path: tuple[str | int, ...]


class Painter:
    """Renders shots of one district, keeping what it has painted for the next shot nearby."""

    def __init__(self, district: District, pool: TexturePool) -> None:
        self.district, self.pool = district, pool
        self._parked = functools.lru_cache(maxsize=1024)(self._parked_cars)

    def picture(self, shot: Shot, size: tuple[int, int]) -> Pillow.Image:
        """Return the finished picture of `size` (height, width) pixels."""
        rng = self.district.stream("instant", *shot.rng_path)
        frame, glow = self._scene(shot, rng)
        colour = frame.colour
        if shot.light.night:
            colour = colour + _haloes(frame, glow)
        return develop(colour, shot.light, size, rng)

    def _scene(self, shot: Shot, rng: np.random.Generator) -> tuple[Frame, Floats]:
        camera, light = shot.camera, shot.light
        frame = Frame(camera)
        streets = self._streets(camera)
        hits = cast(self.district, camera)
        glow = np.zeros(frame.depth.shape, bool)
        if hits is not None:
            glow = draw(frame, hits, self.pool, light, wall_shadow(self.district, hits, light))
        draw_ground(frame, self.district, light)
        draw_sky(frame, light)
        lamps = np.concatenate([street.lamps for _, street in streets])
        heads = np.column_stack(
            [lamps[:, :2] + lamps[:, 2:] * sprites.LAMP_REACH, np.full(len(lamps), 6.2, np.float32)]
        )
        things = self._things(streets, shot, rng)
        _contact_shadows(frame, things, light)
        if light.night:
            _light_up(frame, glow, heads)
        for _, kind, thing in sorted(things, key=lambda entry: -entry[0]):
            if kind == "car":
                draw_car(frame, thing, light, _lamp_at(heads, thing.x, thing.y) if light.night else 0.0)
            else:
                self._draw_flat(frame, kind, thing, light, heads)
        shine = glow.astype(np.float32) * 0.25
        if light.night:
            _light_heads(frame, heads, shine)
        return frame, shine

    def _streets(self, camera: Camera) -> list[tuple[tuple[int, int, int], Street]]:
        found = []
        for axis in range(2):
            own, across = (camera.x, camera.y) if axis == 0 else (camera.y, camera.x)
            lines = np.flatnonzero(np.abs(self.district.axes[axis] - own) < NEAR)
            cross = self.district.axes[1 - axis]
            blocks = np.flatnonzero((cross[1:] > across - NEAR) & (cross[:-1] < across + NEAR))
            for i in lines:
                for j in blocks:
                    if i < len(cross) - 1:
                        found.append(((axis, int(i), int(j)), self.district.street(axis, int(i), int(j))))
        return found

    def _things(
        self, streets: list[tuple[tuple[int, int, int], Street]], shot: Shot, rng: np.random.Generator
    ) -> list[tuple[float, str, object]]:
        """Return (depth, kind, what) of everything that stands or drives in sight."""
        camera = shot.camera
        things: list[tuple[float, str, object]] = []

        def add(kind: str, rows: Floats) -> None:
            right, ahead = camera.relative(rows[:, 0], rows[:, 1])
            limit = camera.across[-1] * ahead + 6
            for r in np.flatnonzero((ahead > 0.8) & (ahead < NEAR) & (np.abs(right) < limit)):
                things.append((float(ahead[r]), kind, (float(right[r]), float(ahead[r]), *rows[r].tolist())))

        for key, street in streets:
            add("tree", street.trees)
            add("lamp", street.lamps)
            add("post", street.posts)
            for car in self._parked(key, shot.light.day):
                things.append((float(camera.relative(np.float32(car.x), np.float32(car.y))[1]), "car", car))
        things += [(ahead, "car", car) for ahead, car in _traffic(self.district, camera, rng)]
        add("person", _walkers(self.district, camera, rng))
        return things

    def _parked_cars(self, key: tuple[int, int, int], day: int) -> tuple[Car, ...]:
        places = self.district.street(*key).parking
        count = len(places)
        drawn = []
        for path in (("residents", *key), ("parked", day, *key)):
            rng = self.district.stream(*path)
            drawn.append(
                (
                    rng.random(count),
                    rng.choice(len(PAINT_SHARES), count, p=PAINT_SHARES),
                    rng.random(count),
                    rng.normal(0, 0.35, count),
                )
            )
        cars = []
        for i, (x, y, direction) in enumerate(places.tolist()):
            taken, paint, kind, shift = drawn[0 if drawn[0][2][i] < RESIDENT else 1]
            if taken[i] < OCCUPIED:
                forth = (np.cos(direction) * shift[i], np.sin(direction) * shift[i])
                cars.append(Car(x + forth[0], y + forth[1], direction, int(paint[i]), bool(kind[i] % 0.5 < 0.08)))
        return tuple(cars)

    def _draw_flat(self, frame: Frame, kind: str, thing: object, light: Light, heads: Floats) -> None:
        aside, ahead, x, y, *rest = thing  # type: ignore[misc]
        lit = np.array(light.ambient, np.float32) + 0.5 * np.array(light.sun_colour, np.float32)
        if light.night:
            lit = lit + _lamp_at(heads, x, y) * _LAMP_COLOUR
        if kind == "tree":
            height, colour = rest[0], light.leaf_colours[int(rest[1])]
            sprite = sprites.tree(int(x * 7 + y * 13) % sprites.TREE_SHAPES, light.leaves, colour)
            sprites.draw_sprite(
                frame, sprite, (aside, ahead), (height * sprites.TREE_ASPECT, height), lit, int(x) % 2 == 0
            )
        elif kind == "lamp":
            turned = rest[0] * frame.camera.right[0] + rest[1] * frame.camera.right[1] < 0
            sprites.draw_sprite(frame, sprites.lamp_post(), (aside, ahead), sprites.LAMP_SIZE, lit, turned)
        elif kind == "post":
            sprites.draw_sprite(
                frame, sprites.post(int(rest[0])), (aside, ahead), sprites.POST_SIZES[int(rest[0])], lit
            )
        else:
            sprites.draw_sprite(
                frame, sprites.person(int(rest[0])), (aside, ahead), (0.62, 1.74), lit, int(x * 10) % 2 == 0
            )


def _traffic(district: District, camera: Camera, rng: np.random.Generator) -> list[tuple[float, Car]]:
    """Return cars that happen to drive along the street the camera looks down."""
    axis = 0 if abs(camera.forward[1]) > abs(camera.forward[0]) else 1
    own, along = (camera.x, camera.y) if axis == 0 else (camera.y, camera.x)
    street = int(np.abs(district.axes[axis] - own).argmin())
    ahead = 1 if camera.forward[1 - axis] > 0 else -1
    cars = []
    for _ in range(int(rng.integers(0, 3))):
        distance, side = float(rng.uniform(9, 80)), 1 if rng.random() < 0.5 else -1
        x, y = district.place(
            axis, street, along + ahead * distance, side * min(1.6, district.road[axis, street] - 2.4)
        )
        # Traffic keeps to the right: on the side of larger x, cars drive towards larger y.
        direction = (np.pi / 2 if side > 0 else -np.pi / 2) if axis == 0 else (np.pi if side > 0 else 0.0)
        car = Car(x, y, float(direction), int(rng.choice(len(PAINT_SHARES), p=PAINT_SHARES)), bool(rng.random() < 0.2))
        cars.append((distance, car))
    return cars


def _walkers(district: District, camera: Camera, rng: np.random.Generator) -> Floats:
    """Return passers-by on the pavements ahead: float32 [n,3]: x, y, kind."""
    axis = 0 if abs(camera.forward[1]) > abs(camera.forward[0]) else 1
    own, along = (camera.x, camera.y) if axis == 0 else (camera.y, camera.x)
    street = int(np.abs(district.axes[axis] - own).argmin())
    ahead = 1 if camera.forward[1 - axis] > 0 else -1
    rows = []
    for distance in rng.uniform(4, 60, int(rng.integers(0, 6))):
        offset = district.road[axis, street] + rng.uniform(0.9, district.pavement[axis, street] - 0.3)
        side = 1 if rng.random() < 0.5 else -1
        rows.append(
            (
                *district.place(axis, street, along + ahead * float(distance), side * float(offset)),
                int(rng.integers(sprites.PEOPLE)),
            )
        )
    return np.array(rows, np.float32).reshape(-1, 3)


def _contact_shadows(frame: Frame, things: list[tuple[float, str, object]], light: Light) -> None:
    """Darken the ground under cars and trees."""
    camera = frame.camera
    for depth, kind, thing in things:
        if kind == "car" and 2.5 < depth < 60:
            right, _ = camera.relative(np.float32(thing.x), np.float32(thing.y))  # type: ignore[attr-defined]
            turned = abs(np.cos(thing.direction - camera.heading))  # type: ignore[attr-defined]
            long, wide = SHADOW_REACH
            _ellipse(
                frame, float(right), depth, wide + (long - wide) * (1 - turned), wide + (long - wide) * turned, 0.42
            )
        elif kind == "tree" and 2.5 < depth < 60 and not light.night:
            aside, _, _, _, height, _ = thing  # type: ignore[misc]
            reach = height * 0.3
            _ellipse(frame, aside, depth, reach, reach, 1 - 0.35 * light.leaves)


def _ellipse(frame: Frame, aside: float, depth: float, wide: float, deep: float, factor: float) -> None:
    camera = frame.camera
    near = max(depth - deep, 0.8)
    columns = [camera.column_of(aside + side * wide, d) for side in (-1, 1) for d in (near, depth + deep)]
    window = frame.window(camera.row_of(0, depth + deep), camera.row_of(0, near) + 1, min(columns), max(columns) + 1)
    if window is None:
        return
    down = camera.down[window[0]][:, None]
    t = np.float32(camera.height) / np.maximum(down, 1e-3)
    inside = ((camera.across[window[1]][None, :] * t - aside) / wide) ** 2 + ((t - depth) / deep) ** 2 < 1
    inside &= np.abs(frame.depth[window] - t) < 0.01 * t
    frame.colour[window][inside] *= np.float32(factor)


def _lamp_at(heads: Floats, x: float, y: float) -> float:
    squared = (heads[:, 0] - x) ** 2 + (heads[:, 1] - y) ** 2 + 16.0
    return float((1 / (1 + squared * 0.10)).sum())


def _light_up(frame: Frame, glow: NDArray[np.bool_], heads: Floats) -> None:
    """Add the light of the street lamps to walls and ground that do not shine themselves."""
    coarse = lamplight(frame.camera, frame.depth, heads, LAMP_STEP)
    rows, columns = frame.depth.shape
    fine = coarse.repeat(LAMP_STEP, 0).repeat(LAMP_STEP, 1)[:rows, :columns]
    ambient = 0.1
    lift = 1 + np.where(glow, 0, fine * (0.85 / ambient))[..., None] * _LAMP_COLOUR
    frame.colour *= lift


def _light_heads(frame: Frame, heads: Floats, shine: Floats) -> None:
    camera = frame.camera
    right, ahead = camera.relative(heads[:, 0], heads[:, 1])
    for a, b in zip(right.tolist(), ahead.tolist(), strict=True):
        if not 1.5 < b < NEAR:
            continue
        size = max(1, round(0.22 / b * camera.focal))
        row, column = camera.row_of(6.2, b), camera.column_of(a, b)
        window = frame.window(row - size, row + size, column - size, column + size)
        if window is not None:
            free = frame.depth[window] >= b - 0.5
            frame.colour[window][free] = (1.0, 0.9, 0.65)
            shine[window][free] = 4.0


def _haloes(frame: Frame, shine: Floats) -> Floats:
    """Return the glare round lights, float32 [rows,columns,3]."""
    rows, columns = shine.shape
    small = Pillow.fromarray(shine, "F").resize((columns // 4, rows // 4), Pillow.Resampling.BOX)
    total = np.zeros((rows, columns), np.float32)
    for size, weight in ((6, 0.30), (18, 0.30)):
        coarse = small.resize((max(2, columns // (2 * size)), max(2, rows // (2 * size))), Pillow.Resampling.BOX)
        total += weight * np.asarray(coarse.resize((columns, rows), Pillow.Resampling.BICUBIC))
    return np.maximum(total, 0)[..., None] * _LAMP_COLOUR


def develop(colour: Floats, light: Light, size: tuple[int, int], rng: np.random.Generator) -> Pillow.Image:
    """Turn sampled light into a picture: exposure, tint, vignette, shoulder, averaging to `size`, grain."""
    height, width = size
    rows, columns = colour.shape[:2]
    y, x = np.linspace(-1, 1, rows, dtype=np.float32)[:, None], np.linspace(-1, 1, columns, dtype=np.float32)[None, :]
    gain = np.float32(light.exposure) * (1 - 0.16 * (x * x + y * y) * 0.5)
    out = colour * gain[..., None] * np.array(light.tint, np.float32)
    out = np.where(out > 0.8, 0.8 + 0.2 * np.tanh((out - 0.8) / 0.2), out)
    picture = Pillow.fromarray((np.clip(out, 0, 1) * 255).astype(np.uint8)).resize(
        (width, height), Pillow.Resampling.BOX
    )
    grain = (
        rng.standard_normal((height, width, 1), np.float32) * 0.7
        + rng.standard_normal((height, width, 3), np.float32) * 0.5
    )
    noisy = np.asarray(picture, np.float32) + grain * np.float32(255 * light.grain)
    return Pillow.fromarray(np.clip(noisy, 0, 255).astype(np.uint8))
