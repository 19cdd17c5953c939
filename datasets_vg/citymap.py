"""A map of a dataset: database and queries of every split as one self-contained SVG, north up."""

from __future__ import annotations

from html import escape
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from datasets_vg.splits import SplitFolders, find_splits
from vgbench.data import read_folder
from vgbench.errors import UserError
from vgbench.report.city_map import Sheet, cells_of, dots, scale_bar

WIDTH, HEIGHT, MARGIN, LEGEND = 1000.0, 800.0, 30.0, 24.0
PANELS = 4
"""Cities in a row."""
COLOURS = {"train": ("#9ecae1", "#08519c"), "val": ("#a1d99b", "#006d2c"), "test": ("#fdae6b", "#a63603")}
"""Database and queries of each split."""
_CELL = 1.5
"""What falls into one cell of this many drawing units is one dot, so that the file stays small."""

Points = NDArray[np.float64]


def write_map(root: Path, output: Path) -> Path:
    """Draw the dataset at `root` into the SVG file `output`; returns `output`.

    Raises:
        UserError: no dataset there, or the file cannot be written.
    """
    splits = find_splits(root)
    cities = [(city, table.utm) for split in splits if split.cities for city, table, _ in split.by_city()]
    if cities:
        text = city_panels(root.name, cities)
    else:
        text = svg(root.name, [layer for split in splits for layer in _layers(split)])
    try:
        output.write_text(text, "utf-8")
    except OSError as error:
        raise UserError(
            f"--output {output}: cannot be written ({error.strerror}). Expected a file name in a folder that exists"
        ) from error
    return output


def _layers(split: SplitFolders) -> list[tuple[str, str, float, Points]]:
    """Return (label, colour, dot size, UTM) of each folder, database first."""
    pale, strong = COLOURS[split.name]
    layers = []
    for folder in split.all:
        is_queries = folder in split.queries
        label = split.label(folder)
        layers.append((label, strong if is_queries else pale, 2.2 if is_queries else 3.6, read_folder(folder).utm))
    return layers


def svg(title: str, layers: list[tuple[str, str, float, Points]]) -> str:
    """Return the drawing of (label, colour, dot size, UTM float64 [n,2]) layers in their order, with a legend."""
    everything = np.concatenate([utm for *_, utm in layers])
    low, extent = everything.min(0), np.maximum(np.ptp(everything, axis=0), 1.0)
    scale = float(min((WIDTH - 2 * MARGIN) / extent[0], (HEIGHT - 2 * MARGIN) / extent[1]))
    height = extent[1] * scale + 2 * MARGIN
    total = height + LEGEND * (len(layers) + 1) + MARGIN
    sheet = Sheet(low, scale, MARGIN, height - MARGIN)
    parts = _begun(title, total, 15)
    for row, (label, colour, size, utm) in enumerate(layers):
        parts.append(_marks(sheet, utm, colour, size))
        y = height + LEGEND * (row + 1)
        parts.append(f'<circle cx="{MARGIN}" cy="{y - 5:.1f}" r="6" fill="{colour}"/>')
        parts.append(f'<text x="{MARGIN + 14}" y="{y:.1f}">{escape(label)}: {len(utm)} images</text>')
    parts.append(scale_bar(scale, WIDTH - MARGIN - 300, height + LEGEND, 240))
    return "\n".join([*parts, "</svg>\n"])


def city_panels(title: str, cities: list[tuple[str, Points]]) -> str:
    """Return a drawing with a panel for each city (name, UTM float64 [n,2]), each at its own scale: they lie apart."""
    side = (WIDTH - MARGIN) / PANELS - MARGIN
    row = side + 2 * LEGEND + MARGIN
    total = MARGIN + row * -(-len(cities) // PANELS)
    parts = _begun(title, total, 13)
    for number, (city, utm) in enumerate(cities):
        x, y = MARGIN + (side + MARGIN) * (number % PANELS), MARGIN + row * (number // PANELS)
        extent = max(float(np.ptp(utm, axis=0).max()), 1.0)
        parts += [
            f'<rect x="{x:.1f}" y="{y:.1f}" width="{side:.1f}" height="{side:.1f}" fill="none" stroke="#ddd"/>',
            _marks(Sheet(utm.min(0), side / extent, x, y + side), utm, COLOURS["train"][1], 2),
            f'<text x="{x:.1f}" y="{y + side + LEGEND:.1f}">{escape(city)}: {len(utm)} images, '
            f"{extent / 1000:.1f} km</text>",
        ]
    return "\n".join([*parts, "</svg>\n"])


def _begun(title: str, height: float, font: int) -> list[str]:
    """Return the first lines of a drawing."""
    return [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH:.0f} {height:.0f}"',
        f' font-family="sans-serif" font-size="{font}">',
        f"<title>{escape(title)}</title>",
        "<style>.map-scale { stroke: black; fill: none }</style>",
        f'<rect width="{WIDTH:.0f}" height="{height:.0f}" fill="white"/>',
    ]


def _marks(sheet: Sheet, utm: Points, colour: str, size: float) -> str:
    """Return a dot where there are images, one for those that are drawn at the same spot."""
    at = sheet.at(utm)
    path = dots(at[np.sort(cells_of(at, _CELL)[0])])
    return f'<path d="{path}" stroke="{colour}" stroke-width="{size}" stroke-linecap="round" fill="none"/>'
