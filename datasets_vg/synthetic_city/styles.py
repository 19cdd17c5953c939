"""Architectural styles: what the houses of one district have in common."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

Colour = tuple[float, float, float]


@dataclass(frozen=True)
class Style:
    """One architectural style; lengths in metres, colours are RGB in 0..1.

    Attributes:
        material: brick, plaster or stone.
        palette: the wall colours that its houses choose from.
        trim: colour of sills, lintels, string courses and cornices.
        window: sash, shutters, french, arched or ribbon.
        roof: parapet, mansard or gable.
        floors: the fewest and the most storeys above the ground floor.
        floor_height: of an upper storey.
        spacing: between window axes.
        window_size: width and height.
        lot: the least and the greatest width of a house.
        shops: share of houses with a shop front.
    """

    material: str
    palette: tuple[Colour, ...]
    trim: Colour
    window: str
    roof: str
    floors: tuple[int, int]
    floor_height: float
    spacing: float
    window_size: tuple[float, float]
    lot: tuple[float, float]
    shops: float


_BRICK_BROWN = ((0.52, 0.42, 0.32), (0.47, 0.36, 0.27), (0.58, 0.49, 0.37))
_BRICK_RED = ((0.50, 0.27, 0.21), (0.43, 0.23, 0.19), (0.56, 0.33, 0.25))
_BRICK_DARK = ((0.33, 0.22, 0.19), (0.40, 0.25, 0.19), (0.29, 0.22, 0.21))
_OCHRE = ((0.80, 0.62, 0.38), (0.78, 0.52, 0.38), (0.84, 0.73, 0.52), (0.72, 0.45, 0.33), (0.80, 0.75, 0.64))
_CREAM = ((0.79, 0.74, 0.63), (0.74, 0.69, 0.58), (0.83, 0.79, 0.70))
_GREY = ((0.62, 0.62, 0.61), (0.70, 0.69, 0.66), (0.54, 0.55, 0.56))
_PASTEL = ((0.67, 0.74, 0.78), (0.80, 0.68, 0.66), (0.72, 0.78, 0.66), (0.85, 0.80, 0.62), (0.86, 0.85, 0.82))
_WHITE = (0.86, 0.85, 0.81)
_SAND = (0.76, 0.70, 0.58)

STYLES = {
    "terrace": Style("brick", _BRICK_BROWN, _WHITE, "sash", "parapet", (2, 3), 3.1, 2.3, (1.0, 1.8), (5.5, 8.0), 0.35),
    "boulevard": Style("stone", _CREAM, _SAND, "french", "mansard", (3, 5), 3.3, 2.2, (1.1, 2.2), (11.0, 17.0), 0.7),
    "old_town": Style(
        "plaster", _OCHRE, _CREAM[2], "shutters", "parapet", (2, 4), 3.2, 2.7, (1.0, 1.7), (8.0, 13.0), 0.5
    ),
    "canal": Style("brick", _BRICK_DARK, _WHITE, "sash", "gable", (2, 3), 3.3, 1.9, (1.1, 2.0), (5.5, 7.5), 0.4),
    "modern": Style("plaster", _GREY, _GREY[1], "ribbon", "parapet", (3, 6), 3.0, 3.3, (2.3, 1.5), (14.0, 22.0), 0.5),
    "civic": Style("stone", _GREY, _SAND, "arched", "parapet", (2, 3), 4.0, 3.0, (1.4, 2.5), (13.0, 20.0), 0.4),
    "warehouse": Style("brick", _BRICK_RED, _SAND, "arched", "gable", (2, 4), 3.6, 3.0, (1.8, 2.2), (9.0, 14.0), 0.3),
    "pastel": Style("plaster", _PASTEL, _WHITE, "sash", "mansard", (2, 3), 3.1, 2.4, (1.0, 1.7), (6.0, 9.0), 0.35),
}


def district_styles(rng: np.random.Generator, count: int) -> list[Style]:
    """Draw `count` styles for a district, each with its own small departures from the table above."""
    names = sorted(STYLES)
    return [_vary(STYLES[names[i]], rng) for i in rng.permutation(len(names))[:count]]


def _vary(style: Style, rng: np.random.Generator) -> Style:
    tint = rng.uniform(0.93, 1.07, 3) * rng.uniform(0.92, 1.06)
    palette = tuple(_clip(np.array(colour) * tint) for colour in style.palette)
    width, height = style.window_size
    return replace(
        style,
        palette=palette,
        trim=_clip(np.array(style.trim) * rng.uniform(0.9, 1.05)),
        floor_height=style.floor_height * rng.uniform(0.95, 1.05),
        spacing=style.spacing * rng.uniform(0.93, 1.1),
        window_size=(width * rng.uniform(0.92, 1.08), height * rng.uniform(0.93, 1.05)),
    )


def _clip(colour: np.ndarray) -> Colour:
    red, green, blue = np.clip(colour, 0.0, 0.95).tolist()
    return (red, green, blue)
