"""Paint the facade of one house: material, storeys of windows, door or shop front, cornice, roof."""

from __future__ import annotations

import functools
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image as Pillow
from PIL import ImageDraw, ImageFont

from datasets_vg.synthetic_city.materials import PIXELS_PER_METRE, crop, material
from datasets_vg.synthetic_city.styles import Colour, Style

Canvas = NDArray[np.float32]

CORNICE = 0.5
CHIMNEY = 1.3
ALWAYS_LIT = 255
"""Value of the light channel where a shop window or a sign is lit every night; 1..254 are windows, lit by lot."""

SHOP_COLOURS: tuple[Colour, ...] = (
    (0.55, 0.10, 0.12), (0.10, 0.28, 0.20), (0.12, 0.20, 0.42), (0.13, 0.13, 0.14), (0.82, 0.78, 0.68),
    (0.80, 0.55, 0.10), (0.36, 0.18, 0.34), (0.10, 0.42, 0.45), (0.70, 0.32, 0.14), (0.45, 0.50, 0.30),
)  # fmt: skip
_SYLLABLES = (
    "BA", "CO", "DE", "FI", "LA", "LO", "MA", "MI", "NO", "PA", "RO", "SA", "SO", "TA", "TE", "VA", "VI", "ZO",
    "BEL", "CAR", "DOR", "FEN", "GAL", "LUN", "MAR", "POR", "RIN", "SOL", "TOR", "VER",
)  # fmt: skip
_TRADES = (
    "CAFE", "BAR", "BOOKS", "SHOES", "PIZZA", "BANK", "TAXI", "MODA", "WINE", "FISH", "RADIO", "HOTEL", "OPTIK",
    "TEA", "BAKER", "GARAGE", "TOYS",
)  # fmt: skip


@dataclass(frozen=True)
class House:
    """What one house looks like; `number` seeds everything not said here."""

    number: tuple[int, ...]
    style: Style
    colour: Colour
    floors: int
    shop: bool

    @property
    def ground_height(self) -> float:
        return 3.9 if self.shop else self.style.floor_height + 0.4

    @property
    def wall_height(self) -> float:
        """Metres from the pavement to the top of the cornice."""
        return self.ground_height + self.floors * self.style.floor_height + CORNICE

    @property
    def roof_height(self) -> float:
        """Metres that the roof adds at its highest, without chimneys."""
        return {"parapet": 0.0, "mansard": 2.6, "gable": 2.8}[self.style.roof]

    @property
    def full_height(self) -> float:
        return self.wall_height + self.roof_height + CHIMNEY


def pixels(metres: float) -> int:
    return max(1, round(metres * PIXELS_PER_METRE))


def skyline(house: House, width: float, samples: int) -> NDArray[np.float32]:
    """Return the height (m, float32 [samples]) of a front of `width` metres at evenly spaced places, left to right."""
    rng = np.random.default_rng([1, *house.number])
    place = (np.arange(samples) + 0.5) / samples
    top = np.full(samples, house.wall_height, np.float32)
    if house.style.roof == "mansard":
        top += house.roof_height
    if house.style.roof == "gable":
        steps = 5 if rng.random() < 0.5 else 64
        rise = 1 - np.abs(2 * place - 1)
        top += house.roof_height * np.clip(np.ceil(rise * 1.25 * steps) / steps, 0, 1)
    else:
        for left in rng.uniform(0.05, 0.85, rng.integers(0, 3)):
            top[np.abs(place - left - 0.5 / width) < 0.5 / width] += CHIMNEY * rng.uniform(0.6, 1.0)
    return top


def paint(house: House, width: float) -> NDArray[np.uint8]:
    """Return the front of a house: uint8 [full_height, width, 4] at PIXELS_PER_METRE, RGB and the light channel."""
    rng = np.random.default_rng([2, *house.number])
    canvas = np.empty((pixels(house.full_height), pixels(width), 4), np.float32)
    rows, columns = canvas.shape[:2]
    canvas[..., :3] = crop(material(house.style.material), rng, rows, columns)[..., None] * np.array(
        house.colour, np.float32
    )
    canvas[..., 3] = 0
    roof_rows = rows - pixels(house.wall_height)
    _dirt(canvas, rng)
    _storeys(canvas, house, width, rng)
    _cornice(canvas[roof_rows:], house)
    _roof(canvas[:roof_rows], house, rng)
    ground = canvas[rows - pixels(house.ground_height) :]
    if house.shop:
        _shop(ground, rng)
    else:
        _doorway(ground, house, rng)
    _details(canvas, house, rng)
    light = canvas[..., 3].astype(np.uint8)
    out = np.clip(canvas * 255, 0, 255).astype(np.uint8)
    out[..., 3] = light
    return out


def paint_party_wall(house: House, width: float) -> NDArray[np.uint8]:
    """Return the windowless side of a house: uint8 [wall_height, width, 4]."""
    rng = np.random.default_rng([3, *house.number])
    rows, columns = pixels(house.wall_height), pixels(width)
    tone = np.array(house.colour, np.float32) * 0.5 + np.array((0.22, 0.21, 0.20), np.float32)
    canvas = np.zeros((rows, columns, 4), np.float32)
    canvas[..., :3] = crop(material("plaster" if rng.random() < 0.6 else "brick"), rng, rows, columns)[..., None] * tone
    _dirt(canvas, rng)
    return np.clip(canvas * 255, 0, 255).astype(np.uint8)


def _dirt(canvas: Canvas, rng: np.random.Generator) -> None:
    rows, columns = canvas.shape[:2]
    streaks = np.repeat(rng.normal(1, 0.035, columns // 4 + 1), 4)[:columns]
    fade = np.linspace(1.03, 0.93, rows)
    canvas[..., :3] *= (fade[:, None] * streaks[None, :]).astype(np.float32)[..., None]


def _storeys(canvas: Canvas, house: House, width: float, rng: np.random.Generator) -> None:
    style = house.style
    axes = window_axes(style, width)
    stamps = [window_stamp(style, house.number, variant) for variant in range(4)]
    floor_rows = pixels(style.floor_height)
    bottom = canvas.shape[0] - pixels(house.ground_height)
    for floor in range(house.floors):
        base = bottom - floor * floor_rows
        canvas[base - 2 : base + 1, :, :3] = np.array(style.trim, np.float32) * (1.0 if floor == 0 else 0.9)
        canvas[base + 1 : base + 3, :, :3] *= 0.75
        for axis in axes:
            stamp = stamps[int(rng.integers(4))]
            _put(canvas, stamp, base - pixels(0.7), pixels(axis), int(rng.integers(1, 255)))
    if style.window == "french":
        _balcony(canvas, bottom - floor_rows * (house.floors - 1), pixels(width))


def window_axes(style: Style, width: float) -> list[float]:
    """Return where the axes of the windows stand (metres from the left edge) in a front of `width` metres."""
    count = max(1, int((width - 0.6) / style.spacing))
    return [width * (i + 0.5) / count for i in range(count)]


def _put(canvas: Canvas, stamp: Canvas, bottom: int, centre: int, light: int) -> None:
    """Stamp a window: its light channel becomes `light`; alpha 2 in it means leave the wall as it is."""
    height, width = stamp.shape[:2]
    top, left = bottom - height, centre - width // 2
    if top < 0 or left < 0:
        return
    part = canvas[top:bottom, left : left + width]
    stamp = stamp[:, : part.shape[1]]
    keep = stamp[..., 3] < 2
    part[keep] = stamp[keep]
    part[..., 3] *= light


@functools.lru_cache(maxsize=256)
def window_stamp(style: Style, number: tuple[int, ...], variant: int) -> Canvas:
    """Return one window with its frame: float32 [h,w,4], fourth channel 1 on glass, 0 on frame, 2 outside."""
    rng = np.random.default_rng([4, variant % 4, *number])
    width, height = pixels(style.window_size[0]), pixels(style.window_size[1])
    side = pixels(0.5) if style.window == "shutters" else 3
    stamp = np.zeros((height + 7, width + 2 * side, 4), np.float32)
    stamp[..., 3] = 2
    trim = np.array(style.trim, np.float32)
    stamp[:, side - 3 : side + width + 3, :3] = trim
    stamp[:, side - 3 : side + width + 3, 3] = 0
    stamp[-3:, :, :3], stamp[-3:, :, 3] = trim * 1.05, 0
    glass = stamp[4 : 4 + height, side : side + width]
    _glass(glass, rng, variant)
    _bars(glass, style.window)
    if style.window == "shutters":
        slats = np.where(np.arange(height) % 3 == 0, 0.7, 1.0)[:, None, None].astype(np.float32)
        colour = np.array(_shutter_colour(number), np.float32)
        for left in (0, side + width + 1):
            stamp[4 : 4 + height, left : left + side - 2, :3] = colour * slats
            stamp[4 : 4 + height, left : left + side - 2, 3] = 0
    if style.window == "arched":
        _round_top(stamp, side, width, trim)
    return stamp


def _shutter_colour(number: tuple[int, ...]) -> Colour:
    choices: tuple[Colour, ...] = (
        (0.20, 0.33, 0.24),
        (0.36, 0.25, 0.18),
        (0.45, 0.50, 0.52),
        (0.25, 0.34, 0.42),
        (0.5, 0.2, 0.16),
    )
    return choices[int(np.random.default_rng([5, *number]).integers(len(choices)))]


def _glass(glass: Canvas, rng: np.random.Generator, variant: int) -> None:
    height, width = glass.shape[:2]
    sky = np.linspace(0.42, 0.16, height, dtype=np.float32)[:, None] * np.linspace(0.8, 1.15, width, dtype=np.float32)
    glass[..., :3] = sky[..., None] * np.array((0.85, 0.97, 1.1), np.float32)
    glass[..., 3] = 1
    if variant in (1, 2):
        curtain = width // 4
        pale = rng.uniform(0.55, 0.8)
        glass[:, :curtain, :3] = glass[:, :curtain, :3] * 0.4 + 0.6 * pale
        glass[:, width - curtain :, :3] = glass[:, width - curtain :, :3] * 0.4 + 0.6 * pale
    if variant == 3:
        blind = int(height * rng.uniform(0.3, 0.7))
        glass[:blind, :, :3] = np.array((0.72, 0.68, 0.6), np.float32) * rng.uniform(0.7, 1.0)
    glass[:3, :, :3] *= 0.45
    glass[:, :2, :3] *= 0.6


def _bars(glass: Canvas, kind: str) -> None:
    height, width = glass.shape[:2]
    frame = np.float32(0.82 if kind != "ribbon" else 0.3)
    across = {"sash": [height // 2], "french": [height // 5], "arched": [height // 3, 2 * height // 3]}.get(
        kind, [height // 2]
    )
    for row in [0, height - 2, *across]:
        glass[row : row + 2, :, :3], glass[row : row + 2, :, 3] = frame, 0
    upright = {"ribbon": [width // 3, 2 * width // 3], "arched": [width // 3, 2 * width // 3]}.get(kind, [width // 2])
    for column in [0, width - 1, *upright]:
        glass[:, column : column + 1, :3], glass[:, column : column + 1, 3] = frame, 0


def _round_top(stamp: Canvas, side: int, width: int, trim: Canvas) -> None:
    radius = width / 2
    rows, columns = np.mgrid[0 : int(radius) + 4, 0 : stamp.shape[1]]
    distance = np.hypot(rows - radius - 4, columns - side - radius + 0.5)
    above = rows < radius + 4
    stamp[: int(radius) + 4][above & (distance > radius + 4)] = (0, 0, 0, 2)
    stamp[: int(radius) + 4][above & (distance > radius) & (distance <= radius + 4)] = (*(trim * 0.95), 0)


def _balcony(canvas: Canvas, base: int, width: int) -> None:
    rails = canvas[base - pixels(1.0) : base, 4 : width - 4]
    rails[::1, ::3, :3] = 0.1
    rails[:2, :, :3] = 0.08
    rails[..., 3] *= np.where(np.arange(rails.shape[1]) % 3 == 0, 0, 1)
    canvas[base : base + 4, 2 : width - 2, :3] *= 0.6


def _cornice(wall: Canvas, house: House) -> None:
    trim = np.array(house.style.trim, np.float32)
    band = pixels(CORNICE)
    wall[:band, :, :3] = trim * np.linspace(1.08, 0.9, band, dtype=np.float32)[:, None, None]
    wall[band // 2 : band // 2 + 2, :, :3] *= 0.75
    wall[band - 3 : band, ::6, :3] *= 0.7
    shade = pixels(0.45)
    wall[band : band + shade, :, :3] *= np.linspace(0.55, 1.0, shade, dtype=np.float32)[:, None, None]


def _roof(roof: Canvas, house: House, rng: np.random.Generator) -> None:
    rows, columns = roof.shape[:2]
    if house.style.roof == "gable":
        return
    roof[..., :3] = crop(material("brick"), rng, rows, columns)[..., None] * np.array((0.42, 0.25, 0.2), np.float32)
    if house.style.roof == "parapet":
        return
    slope = roof[pixels(CHIMNEY) :]
    height = slope.shape[0]
    slate = np.array((0.33, 0.35, 0.39), np.float32) if rng.random() < 0.7 else np.array((0.5, 0.3, 0.24), np.float32)
    slope[..., :3] = crop(material("slate"), rng, height, columns)[..., None] * slate
    slope[:3, :, :3] *= 0.7
    for axis in window_axes(house.style, columns / PIXELS_PER_METRE)[:: 1 + int(rng.integers(2))]:
        dormer = slope[pixels(0.6) : pixels(2.2), max(0, pixels(axis) - 12) : pixels(axis) + 12]
        dormer[..., :3], dormer[..., 3] = 0.75, 0
        pane = dormer[6:-4, 4:-4]
        pane[..., :3], pane[..., 3] = (0.2, 0.23, 0.27), int(rng.integers(1, 255))
        dormer[:4, :, :3] = slate * 0.6


def _doorway(ground: Canvas, house: House, rng: np.random.Generator) -> None:
    rows, columns = ground.shape[:2]
    ground[rows - pixels(0.5) :, :, :3] *= 0.72
    axes = window_axes(house.style, columns / PIXELS_PER_METRE)
    door = int(rng.integers(len(axes)))
    for i, axis in enumerate(axes):
        if i != door:
            stamp = window_stamp(house.style, house.number, int(rng.integers(4)))
            _put(ground, stamp, rows - pixels(1.0), pixels(axis), int(rng.integers(1, 255)))
    centre = pixels(axes[door])
    width, height = pixels(0.6), pixels(2.5)
    ground[rows - height - 5 :, max(0, centre - width - 4) : centre + width + 4, :3] = np.array(
        house.style.trim, np.float32
    )
    leaf = ground[rows - height :, max(0, centre - width) : centre + width]
    leaf[..., :3] = np.array(SHOP_COLOURS[int(rng.integers(len(SHOP_COLOURS)))], np.float32) * 0.8
    leaf[: pixels(0.4), :, :3], leaf[: pixels(0.4), :, 3] = 0.25, int(rng.integers(1, 255))
    leaf[pixels(0.4) : pixels(0.4) + 2, :, :3] = 0.7
    for top, bottom in ((0.6, 1.3), (1.5, 2.3)):
        leaf[pixels(top) : pixels(bottom), 4:-4, :3] *= 0.75
    ground[rows - 3 :, max(0, centre - width - 4) : centre + width + 4, :3] = 0.5


def _shop(ground: Canvas, rng: np.random.Generator) -> None:
    colour = np.array(SHOP_COLOURS[int(rng.integers(len(SHOP_COLOURS)))], np.float32)
    front = ground[pixels(0.35) :, 3:-3]
    front[..., :3], front[..., 3] = colour * 0.75, 0
    sign = front[: pixels(0.75)]
    sign[..., :3] = colour
    text = lettering(_name(rng), sign.shape[0] - 4, sign.shape[1] - 8)[..., None]
    ink = np.array((0.95, 0.92, 0.8) if colour.mean() < 0.5 else (0.1, 0.1, 0.12), np.float32)
    area = sign[2 : 2 + text.shape[0], 4 : 4 + text.shape[1]]
    area[..., :3] = area[..., :3] * (1 - text) + ink * text
    area[..., 3] = np.where(text[..., 0] > 0.4, ALWAYS_LIT, 0)
    _panes(front, rng)
    if rng.random() < 0.45:
        _awning(front, rng)


def _panes(front: Canvas, rng: np.random.Generator) -> None:
    columns = front.shape[1]
    count = max(2, columns // pixels(2.0))
    edges = np.linspace(0, columns, count + 1).astype(int)
    door = int(rng.integers(count))
    for i in range(count):
        low = -pixels(0.12) if i == door else -pixels(0.55)
        pane = front[pixels(0.95) : low, edges[i] + 3 : edges[i + 1] - 3]
        height, width = pane.shape[:2]
        pane[..., :3] = np.linspace(0.36, 0.2, height, dtype=np.float32)[:, None, None] * np.array(
            (0.95, 1.0, 1.05), np.float32
        )
        pane[..., 3] = ALWAYS_LIT
        goods = rng.uniform(0.15, 0.85, (height // 10 + 1, width // 8 + 1, 3)).astype(np.float32)
        goods = goods.repeat(10, 0).repeat(8, 1)[:height, :width]
        shown = slice(height // 2, None)
        pane[shown, :, :3] = pane[shown, :, :3] * 0.55 + 0.45 * goods[shown]


def _awning(front: Canvas, rng: np.random.Generator) -> None:
    first = np.array(SHOP_COLOURS[int(rng.integers(len(SHOP_COLOURS)))], np.float32)
    columns = front.shape[1]
    stripes = (np.arange(columns) // pixels(0.3)) % 2 if rng.random() < 0.6 else np.zeros(columns, int)
    awning = front[pixels(0.75) : pixels(1.6)]
    shade = np.linspace(1.1, 0.75, awning.shape[0], dtype=np.float32)[:, None, None]
    awning[..., :3] = np.where(stripes[None, :, None] == 1, np.float32(0.88), first) * shade
    awning[..., 3] = 0
    front[pixels(1.6) : pixels(2.1), :, :3] *= 0.6


def _details(canvas: Canvas, house: House, rng: np.random.Generator) -> None:
    """Drainpipes, satellite dishes, posters, ivy, flower boxes: what tells one house from its neighbours."""
    rows, columns = canvas.shape[:2]
    top = rows - pixels(house.wall_height)
    if rng.random() < 0.6:
        at = 2 if rng.random() < 0.5 else columns - 5
        canvas[top + 8 :, at : at + 3, :3] = canvas[top + 8 :, at : at + 3, :3] * 0.4 + 0.06
    base = rows - pixels(house.ground_height)
    if rng.random() < 0.3:
        for axis in window_axes(house.style, columns / PIXELS_PER_METRE):
            box = canvas[base - pixels(0.85) : base - pixels(0.6), max(0, pixels(axis) - 12) : pixels(axis) + 12]
            box[..., 3] = 0
            box[..., :3] = rng.uniform(0.1, 0.75, (*box.shape[:2], 3)) * np.array((0.9, 0.7, 0.45))
    if rng.random() < 0.08 and not house.shop:
        _ivy(canvas[top + pixels(1) :], rng)
    if rng.random() < 0.3 and columns > 90:
        row, column = rows - pixels(2.2), int(rng.integers(5, columns - 40))
        poster = canvas[row : row + pixels(1.2), column : column + pixels(0.9)]
        poster[..., :3] = rng.uniform(0.1, 0.9, 3)
        poster[6:12, 3:-3, :3], poster[14:17, 3:-6, :3] = rng.uniform(0.1, 0.9, 3), 0.9
        poster[..., 3] = 0


def _ivy(wall: Canvas, rng: np.random.Generator) -> None:
    rows, columns = wall.shape[:2]
    reach = np.cumsum(rng.normal(0, 5, rows)) + columns * rng.uniform(0.15, 0.45)
    leafy = (np.arange(columns)[None, :] < reach[:, None]) & (rng.random((rows, columns)) < 0.85)
    shade = rng.uniform(0.5, 1.2, (rows, columns)).astype(np.float32)[..., None]
    wall[leafy, :3] = (shade * np.array((0.17, 0.28, 0.11), np.float32))[leafy]
    wall[leafy, 3] = 0


def _name(rng: np.random.Generator) -> str:
    words = "".join(_SYLLABLES[i] for i in rng.integers(len(_SYLLABLES), size=int(rng.integers(2, 4))))
    return f"{words} {_TRADES[int(rng.integers(len(_TRADES)))]}" if rng.random() < 0.7 else words


def lettering(text: str, height: int, width: int) -> Canvas:
    """Return a line of text as coverage in 0..1, float32 [height, <= width], centred."""
    font = ImageFont.load_default(max(6, height - 1))
    picture = Pillow.new("L", (max(1, width), height))
    draw = ImageDraw.Draw(picture)
    length = draw.textlength(text, font=font)
    while length > width and " " in text:
        text = text.rsplit(" ", 1)[0]
        length = draw.textlength(text, font=font)
    draw.text(((width - length) / 2, height / 2), text, fill=255, font=font, anchor="lm")
    return np.asarray(picture, np.float32) / np.float32(255)
