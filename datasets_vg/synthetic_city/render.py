"""One picture: walls, ground, sky, then what stands in the street, then the camera's own faults."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from PIL import Image as Pillow

from datasets_vg.synthetic_city import night, sprites
from datasets_vg.synthetic_city.camera import Camera, Floats, Frame
from datasets_vg.synthetic_city.cars import SHADOW_REACH, Car, draw_car
from datasets_vg.synthetic_city.ground import draw_ground, draw_sky, wall_shadow
from datasets_vg.synthetic_city.life import Life, Scene, Standing
from datasets_vg.synthetic_city.light import Light
from datasets_vg.synthetic_city.materials import crop, grain
from datasets_vg.synthetic_city.plan import District
from datasets_vg.synthetic_city.pool import TexturePool
from datasets_vg.synthetic_city.walls import cast, draw

OVERSAMPLING = 1.5
WHITE = 1.25
"""The light that fills the sensor."""


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
        self.district, self.pool, self.life = district, pool, Life(district)

    def picture(self, shot: Shot, size: tuple[int, int]) -> Pillow.Image:
        """Return the finished picture of `size` (height, width) pixels."""
        rng = self.district.stream("instant", *shot.rng_path)
        return develop(self._frame(shot, rng).colour, shot.light, size, rng)

    def _frame(self, shot: Shot, rng: np.random.Generator) -> Frame:
        camera, light = shot.camera, shot.light
        frame = Frame(camera)
        hits = cast(self.district, camera)
        glow = np.zeros(frame.depth.shape, bool)
        if hits is not None:
            glow = draw(frame, hits, self.pool, light, wall_shadow(self.district, hits, light))
        draw_ground(frame, self.district, light)
        draw_sky(frame, light)
        streets = self.life.streets(camera)
        scene = self.life.scene(streets, camera, light.day, rng)
        heads = night.lamp_heads([street for _, street in streets])
        _contact_shadows(frame, scene, light)
        if light.night:
            night.light_up(frame, glow, heads, light.ambient[0])
        for _, thing in scene:
            lamps = night.light_at(heads, thing.x, thing.y) if light.night else 0.0
            if isinstance(thing, Car):
                draw_car(frame, thing, light, lamps)
            else:
                _draw_flat(frame, thing, light, lamps)
        if light.night:
            shine = glow.astype(np.float32) * np.float32(0.25)
            night.draw_heads(frame, heads, shine)
            night.add_glare(frame, shine)
        return frame


def _draw_flat(frame: Frame, thing: Standing, light: Light, lamps: float) -> None:
    lit = np.array(light.ambient, np.float32) + np.float32(0.5) * np.array(light.sun_colour, np.float32)
    lit = lit + np.float32(lamps) * night.LAMP_COLOUR
    place, mirrored = (thing.aside, thing.ahead), int(thing.x * 10) % 2 == 0
    number = int(thing.numbers[-1])
    if thing.kind == "tree":
        height = thing.numbers[0]
        sprite = sprites.tree(int(thing.x * 7 + thing.y * 13) % sprites.TREE_SHAPES, light.leaves)
        colours = np.array((light.leaf_colours[number], sprites.BARK), np.float32) * np.float32(1.4)
        sprites.draw_sprite(frame, sprite, place, (height * sprites.TREE_ASPECT, height), lit, mirrored, colours)
    elif thing.kind == "lamp":
        right = frame.camera.right
        turned = thing.numbers[0] * right[0] + thing.numbers[1] * right[1] < 0
        sprites.draw_sprite(frame, sprites.lamp_post(), place, sprites.LAMP_SIZE, lit, turned)
    elif thing.kind == "post":
        sprites.draw_sprite(frame, sprites.post(number), place, sprites.POST_SIZES[number], lit)
    else:
        sprites.draw_sprite(frame, sprites.person(number), place, sprites.PERSON_SIZE, lit, mirrored)


def _contact_shadows(frame: Frame, scene: Scene, light: Light) -> None:
    """Darken the ground under cars and trees."""
    for ahead, thing in scene:
        if not 2.5 < ahead < 60:
            continue
        if isinstance(thing, Car):
            aside, _ = frame.camera.relative_point(thing.x, thing.y)
            turned = abs(float(np.cos(thing.direction - frame.camera.heading)))
            long, wide = SHADOW_REACH
            reach = (wide + (long - wide) * (1 - turned), wide + (long - wide) * turned)
            _ellipse(frame, (aside, ahead), reach, 0.42)
        elif thing.kind == "tree" and not light.night:
            reach = (thing.numbers[0] * 0.32, thing.numbers[0] * 0.32)
            _ellipse(frame, (thing.aside, ahead), reach, 1 - 0.35 * light.leaves * (1 - 0.7 * light.cloud))


def _ellipse(frame: Frame, place: tuple[float, float], reach: tuple[float, float], factor: float) -> None:
    camera, (aside, depth), (wide, deep) = frame.camera, place, reach
    near = max(depth - deep, 0.8)
    columns = [camera.column_of(aside + side * wide, d) for side in (-1, 1) for d in (near, depth + deep)]
    window = frame.window(
        camera.row_of(0, depth + deep), camera.row_of(0, near) + 1, min(columns), max(columns) + 1
    )  # fmt: skip
    if window is None:
        return
    t = np.float32(camera.height) / np.maximum(camera.down[window[0]], np.float32(1e-3))[:, None]
    inside = ((camera.across[window[1]][None, :] * t - aside) / wide) ** 2 + ((t - depth) / deep) ** 2 < 1
    inside &= np.abs(frame.depth[window] - t) < 0.01 * t
    frame.colour[window][inside] *= np.float32(factor)


def develop(colour: Floats, light: Light, size: tuple[int, int], rng: np.random.Generator) -> Pillow.Image:
    """Turn sampled light into a picture: averaging to `size`, exposure, tint, vignette, shoulder, grain."""
    height, width = size
    gain = (light.exposure * np.array(light.tint)).astype(np.float32)
    exposed = np.minimum(colour * (gain * np.float32(255 / WHITE)), np.float32(255))
    averaged = Pillow.fromarray(exposed.astype(np.uint8)).resize((width, height), Pillow.Resampling.BOX)
    y, x = (np.linspace(-1, 1, n, dtype=np.float32) for n in (height, width))
    vignette = np.float32(WHITE / 255) * (1 - np.float32(0.08) * (x[None, :] ** 2 + y[:, None] ** 2))
    out = np.asarray(averaged, np.float32) * vignette[..., None]
    out -= np.maximum(out - np.float32(0.75), 0) ** 2  # takes WHITE to 1, smoothly
    out += crop(grain(), rng, height, width) * np.float32(light.grain)
    return Pillow.fromarray(np.clip(out * 255, 0, 255).astype(np.uint8))
